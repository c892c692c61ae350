#include "sim/core/busy_history.hpp"

#include <catch2/catch_test_macros.hpp>
#include <numeric>

namespace tessera::sim {
namespace {

Time total(const BusyHistory& h) { return std::accumulate(h.busy().begin(), h.busy().end(), Time{}); }

TEST_CASE("a stretch is shared out over the windows it covers") {
  BusyHistory h;
  h.add(Time::nanoseconds(500), Time::nanoseconds(2250));
  CHECK(h.width() == Time::microseconds(1));
  CHECK(h.busy() == std::vector<Time>{Time::nanoseconds(500), Time::microseconds(1), Time::nanoseconds(250)});
}

TEST_CASE("windows become wider when they run out, and lose nothing") {
  BusyHistory h;
  Time expected;
  for (std::int64_t us = 0; us < 100'000; us += 3) {
    h.add(Time::microseconds(us), Time::microseconds(us + 1));
    expected += Time::microseconds(1);
    REQUIRE(total(h) == expected);
  }
  CHECK(h.busy().size() <= BusyHistory::kMostWindows);
  CHECK(h.busy().size() > BusyHistory::kMostWindows / 2);
  CHECK(h.width() == Time::microseconds(16));
  for (const Time& busy : h.busy()) CHECK(busy <= h.width());
  h.add(Time::milliseconds(3'600'000), Time::milliseconds(3'600'001));  // an hour later
  CHECK(total(h) == expected + Time::milliseconds(1));
  CHECK(h.busy().size() <= BusyHistory::kMostWindows);
}

}  // namespace
}  // namespace tessera::sim
