#include "sim/core/wheel.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <random>
#include <tuple>

#include "sim/core/time.hpp"

namespace tessera::sim {
namespace {

TEST_CASE("time converts and clocks divide") {
  CHECK(Time::nanoseconds(3).fs == 3'000'000);
  CHECK(Time::from_us(1.5) == Time::nanoseconds(1500));
  CHECK(Clock::mhz(1000).cycles(5) == Time::nanoseconds(5));
  CHECK(Clock::mhz(1980).period().fs == 505'051);
  CHECK(transfer_time(1000, 1.0) == Time::microseconds(1));
}

TEST_CASE("events leave by time, then port, then order of arrival, then local order") {
  TimeWheel<int> wheel;
  const Time t = Time::nanoseconds(7);
  wheel.schedule(t, 10);
  wheel.deliver(t, 1, 3);
  wheel.deliver(t, 0, 1);
  wheel.deliver(t, 0, 2);
  wheel.schedule(t, 11);
  wheel.schedule(Time::nanoseconds(6), 0);
  std::vector<int> order;
  Time at;
  int v = 0;
  while (wheel.pop(Time::never(), at, v)) order.push_back(v);
  CHECK(order == std::vector<int>{0, 1, 2, 3, 10, 11});
  CHECK(wheel.empty());
}

TEST_CASE("random schedules come out in order, near and far, interleaved with popping") {
  std::mt19937_64 random{1};
  TimeWheel<std::uint32_t> wheel;
  std::vector<std::pair<Time, std::uint32_t>> expected, popped;
  Time now;
  std::uint32_t next = 0;
  for (int round = 0; round < 300; ++round) {
    for (int i = 0; i < 20; ++i) {
      // Same cycle, near, beyond the wheel's horizon, and far beyond.
      static constexpr std::int64_t kSpans[] = {1, 500'000, 5'000'000'000, 900'000'000'000};
      const Time at =
          now + Time{static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(kSpans[random() % 4]))};
      wheel.schedule(at, next);
      expected.emplace_back(at, next++);
    }
    const Time end = now + Time{static_cast<std::int64_t>(random() % 3'000'000'000ULL)};
    Time at;
    std::uint32_t v = 0;
    while (wheel.pop(end, at, v)) {
      CHECK(at < end);
      popped.emplace_back(at, v);
    }
    CHECK(wheel.next_time() >= end);
    now = end;
  }
  Time at;
  std::uint32_t v = 0;
  while (wheel.pop(Time::never(), at, v)) popped.emplace_back(at, v);
  std::stable_sort(expected.begin(), expected.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  CHECK(popped == expected);
  CHECK(wheel.next_time() == Time::never());
}

}  // namespace
}  // namespace tessera::sim
