#include "sim/gpu/sampling/trip_sampling.hpp"

#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace tessera::sim {
namespace {

constexpr double kWindowUs = 20;

struct Outcome {
  std::uint32_t windows = 0, detailed_at_end = 0;
  std::vector<double> charged_us;  // per window of passed trips
  double half_width = 0;
};

/// Lets a machine of `lanes` CTAs make `trips` trips, the one under way at window w taking trip_us(w); passed
/// ones take what they are charged.
Outcome sample(double trips, double even, double lanes, const std::function<double(std::uint32_t)>& trip_us) {
  TripSampling sampling;
  sampling.start({.trips = trips, .even = even}, kWindowUs);
  Outcome out;
  double made = 0;
  std::uint32_t passing = 0;
  double each_us = 0;
  while (made < trips) {
    const double took_us = passing > 0 ? each_us : trip_us(out.windows);
    const double alive = made < even ? lanes : lanes / 2;
    const double n = std::min(trips - made, alive * kWindowUs / took_us);
    made += n;
    ++out.windows;
    out.detailed_at_end = passing > 0 ? 0 : out.detailed_at_end + 1;
    TripWindow window{.made = n};
    if (passing > 0) {
      out.charged_us.push_back(each_us);
      --passing;
    } else {
      window.timed = static_cast<std::uint64_t>(n);
      window.time = Time::from_us(static_cast<double>(window.timed) * took_us);
    }
    if (const auto pass = sampling.add(window)) {
      passing = pass->windows;
      each_us = pass->each.us();
    }
  }
  CHECK(sampling.passed_windows() <= out.charged_us.size());
  out.half_width = sampling.half_width_windows();
  return out;
}

TEST_CASE("a kernel that ends within a stretch of passed trips has passed over what there was of it") {
  TripSampling sampling;
  sampling.start({.trips = 1e6, .even = 1e6, .loops = 100}, kWindowUs, true);
  const TripWindow window{.timed = 1000, .time = Time::from_us(2000), .made = 1000};
  std::optional<TripSampling::Pass> pass;
  for (int i = 0; i < 20 && !pass; ++i) pass = sampling.add(window);
  REQUIRE(pass);
  REQUIRE(pass->windows > 10);
  CHECK(sampling.passed_windows() == 0);
  sampling.end_pass(10);
  CHECK(sampling.passed_windows() == 10);
  CHECK(sampling.half_width_windows() < 10);
  sampling.end_pass(10);
  CHECK(sampling.passed_windows() == 10);
}

TEST_CASE("a short kernel, and one without loops, is not sampled") {
  CHECK(sample(132 * 200, 132 * 200, 132, [](auto) { return 1.0; }).charged_us.empty());
  TripSampling sampling;
  sampling.start({}, kWindowUs);
  for (int i = 0; i < 1000; ++i)
    CHECK_FALSE(sampling.add({.timed = 100, .time = Time::microseconds(100), .made = 100}));
  CHECK(sampling.half_width_windows() == 0);
}

TEST_CASE("steady trips: most are passed over, at their own length, and the end is not") {
  const Outcome out = sample(132 * 20000, 132 * 20000, 132, [](auto) { return 1.0; });
  CHECK(out.windows == 1000);
  CHECK(out.charged_us.size() > 900);
  for (const double us : out.charged_us) CHECK(us == Catch::Approx(1.0));
  CHECK(out.detailed_at_end >= 2);
  // Nothing but the allowance for what windows do not show.
  CHECK(out.half_width == Catch::Approx(0.005 * static_cast<double>(out.charged_us.size())).epsilon(0.01));
}

TEST_CASE("the first SM's running out of work is simulated, and sampling starts anew after it") {
  const double even = 132 * 4000.0, trips = even + 66 * 4000.0;
  const auto trip_us = [](std::uint32_t w) { return w < 200 ? 1.0 : 0.8; };
  const Outcome out = sample(trips, even, 132, trip_us);
  // Charged over the whole passed stretch: what holds there.
  const auto fast = std::count_if(out.charged_us.begin(), out.charged_us.end(),
                                  [](double us) { return std::abs(us - 0.8) < 1e-6; });
  const auto slow = std::count_if(out.charged_us.begin(), out.charged_us.end(),
                                  [](double us) { return std::abs(us - 1.0) < 1e-6; });
  CHECK(fast + slow == static_cast<std::ptrdiff_t>(out.charged_us.size()));
  CHECK(fast > 100);
  CHECK(slow > 150);
  CHECK(out.windows == 200 + 160);
}

TEST_CASE("no more is passed over than is asked for, and what changes is measured anew") {
  TripSampling sampling;
  sampling.start({.trips = 1e9, .even = 1e9}, kWindowUs);
  const TripWindow window{.timed = 100, .time = Time::from_us(100), .made = 1000};
  const TripWindow slower{.timed = 100, .time = Time::from_us(125), .made = 800};
  const auto until_pass = [&](const TripWindow& w, double most) {
    for (int i = 0; i < 100; ++i) {
      if (const auto pass = sampling.add(w, most)) return *pass;
    }
    return TripSampling::Pass{};
  };
  CHECK(until_pass(window, 40).windows == 40);
  for (int i = 0; i < 40; ++i) CHECK_FALSE(sampling.add({.made = 1000}));
  while (sampling.holding()) sampling.add(slower);
  sampling.start_anew();
  CHECK(until_pass(slower, 1e9).each == Time::from_us(1.25));
  // A stretch too short to be worth it is simulated.
  TripSampling near;
  near.start({.trips = 1e9, .even = 1e9}, kWindowUs);
  for (int i = 0; i < 100; ++i) CHECK_FALSE(near.add(window, 3));
}

TEST_CASE("a stretch that had to end early, and ended too early, goes on without being measured again") {
  const auto windows_between = [](double most_after) {
    TripSampling sampling;
    sampling.start({.trips = 1e9, .even = 1e9}, kWindowUs);
    const TripWindow window{.timed = 100, .time = Time::from_us(100), .made = 1000};
    while (!sampling.add(window, 1000)) {
    }
    while (sampling.windows_to_pass() > 0) sampling.add({.made = 1000});
    int windows = 1;
    std::optional<TripSampling::Pass> pass;
    while (windows < 100 && !(pass = sampling.add(window, most_after))) ++windows;
    REQUIRE(pass);
    CHECK(pass->windows == most_after);
    CHECK(pass->each == Time::from_us(1));
    sampling.end_pass(5);
    CHECK(sampling.passed_windows() == 1005);
    CHECK(sampling.half_width_windows() == Catch::Approx(0.005 * 1005));
    return windows;
  };
  CHECK(windows_between(50) == 1);
  CHECK(windows_between(500) > 3);  // much is still to come: measured anew
}

TEST_CASE("at a fixed clock, steady kernels are looked at less often") {
  const auto simulated = [](bool fixed) {
    TripSampling sampling;
    sampling.start({.trips = 1e6, .even = 1e6}, kWindowUs, fixed);
    int windows = 0;
    std::uint32_t passing = 0;
    for (double made = 0; made < 1e6; made += 1000) {
      windows += passing == 0;
      const TripWindow window{.timed = passing > 0 ? 0U : 100U, .time = Time::from_us(100), .made = 1000};
      if (passing > 0) --passing;
      if (const auto pass = sampling.add(window)) passing = pass->windows;
    }
    return windows;
  };
  CHECK(simulated(true) < simulated(false));
}

TEST_CASE("a kernel of few short pieces of work is not sampled, one of many is") {
  const auto passes = [](double trips, std::uint64_t items, std::uint64_t alike = 1000) {
    TripSampling sampling;
    sampling.start({.trips = trips, .even = trips, .loops = 100}, kWindowUs, true);
    const TripWindow window{
        .timed = 100, .time = Time::from_us(100), .made = 1000, .items = items, .alike = alike};
    for (int i = 0; i < 40; ++i) {
      if (sampling.add(window)) return true;
    }
    return false;
  };
  CHECK(passes(100 * 1000, 10));         // pieces of 100 trips
  CHECK_FALSE(passes(100 * 200, 100));   // 20 pieces of 10 trips in turn
  CHECK(passes(100 * 2000, 100));        // 200 of them
  CHECK(passes(100 * 200, 100, 20000));  // loops of 200 trips, of which 10 were made so far
}

TEST_CASE("behind kernels that took long, one of few short pieces of work is sampled too") {
  const auto passes = [](double before_us) {
    TripSampling sampling;
    sampling.start({.trips = 20000, .even = 20000, .loops = 100, .before = Time::from_us(before_us)},
                   kWindowUs, true);
    // 20 pieces of 10 trips of 1 us in turn.
    const TripWindow window{
        .timed = 100, .time = Time::from_us(100), .made = 1000, .items = 100, .alike = 1000};
    for (int i = 0; i < 12; ++i) {
      if (sampling.add(window)) return true;
    }
    return false;
  };
  CHECK_FALSE(passes(0));
  CHECK_FALSE(passes(290));  // 29 pieces more
  CHECK(passes(310));
}

TEST_CASE("short loops are sampled where each is the only one of its CTA") {
  const auto passes = [](double loops_in_turn) {
    TripSampling sampling;
    const double trips = 1000 * loops_in_turn;  // loops of 10 trips, 100 at a time
    sampling.start({.trips = trips, .even = trips, .loops = 100}, kWindowUs, true);
    bool first = true;
    for (int i = 0; i < 60; ++i) {
      const bool begins = std::exchange(first, false);
      const TripWindow window{.timed = 16,
                              .time = Time::from_us(160),
                              .made = 16,
                              .items = begins ? 100U : 0U,
                              .alike = begins ? 1000U : 0U};
      if (sampling.add(window)) return true;
    }
    return false;
  };
  CHECK(passes(1));
  CHECK_FALSE(passes(3));
}

TEST_CASE("trips that last several windows, all in step: how long the rest takes is told from all windows") {
  TripSampling sampling;
  sampling.start({.trips = 6400, .even = 6400, .loops = 64}, kWindowUs, true);
  std::optional<TripSampling::Pass> pass;
  std::uint32_t windows = 0;
  for (; !pass && windows < 100; ++windows) {
    const bool ends = windows % 5 == 4;  // 64 trips of 100 us end together
    pass = sampling.add(
        {.timed = ends ? 64U : 0U, .time = Time::from_us(ends ? 6400 : 0), .made = ends ? 64.0 : 0.0});
  }
  REQUIRE(pass);
  CHECK(pass->each == Time::from_us(100));
  // Of 500 windows in all, two stretches; a group of three ends begins between ends, which makes 13 windows
  // of their 15.
  CHECK(pass->windows >= (500 - windows) / 2 * 13 / 15 - 5);
  CHECK(pass->windows + windows <= 500);
}

TEST_CASE("a stretch of passed trips is added at once as well as window by window") {
  const auto add = [](bool at_once) {
    TripSampling sampling;
    sampling.start({.trips = 1e6, .even = 1e6}, kWindowUs);
    for (double made = 0; made < 1e6;) {
      const std::uint32_t windows = at_once ? std::max(1U, sampling.windows_to_pass()) : 1;
      const bool passing = sampling.windows_to_pass() > 0;
      const double n = std::min(1e6 - made, 1000.0 * windows);
      made += n;
      sampling.add({.timed = passing ? 0U : 100U, .time = Time::from_us(100), .made = n}, 1e9, windows);
    }
    return std::pair{sampling.passed_windows(), sampling.half_width_windows()};
  };
  CHECK(add(true).first > 800);
  CHECK(add(true) == add(false));
}

TEST_CASE("windows of many trips may be cut into parts, until the first is measured") {
  TripSampling sampling;
  sampling.start({.trips = 1e9, .even = 1e9, .loops = 2000}, kWindowUs);
  const auto of = [](std::uint64_t timed) {
    return TripWindow{.timed = timed, .time = Time::from_us(static_cast<double>(timed)), .made = 1000};
  };
  CHECK(sampling.divisible(of(2000), 4));
  CHECK_FALSE(sampling.divisible(of(1999), 4));
  sampling.start({.trips = 1e9, .even = 1e9, .loops = 10}, kWindowUs);
  CHECK(sampling.divisible(of(1000), 4));
  CHECK_FALSE(sampling.divisible(of(999), 4));
  int windows = 0;
  while (!sampling.add(of(1000))) ++windows;
  CHECK_FALSE(sampling.divisible(of(1000), 4));
  // Short windows are settled and measured like those of a fixed clock.
  TripSampling shorter;
  shorter.start({.trips = 1e9, .even = 1e9, .loops = 10}, kWindowUs);
  shorter.add(of(1000));
  shorter.resize(kWindowUs / 4, true);
  shorter.set_steady(true);
  int short_windows = 1;
  while (!shorter.add(of(1000))) ++short_windows;
  CHECK(short_windows < windows);
}

TEST_CASE("at a fixed clock, windows that differ are measured for longer") {
  const auto measured = [](double differ) {
    TripSampling sampling;
    sampling.start({.trips = 1e6, .even = 1e6}, kWindowUs, true);
    for (int i = 0; i < 100; ++i) {
      const double us = 100 * (i % 2 == 0 ? 1 + differ : 1 - differ);
      if (sampling.add({.timed = 100, .time = Time::from_us(us), .made = 1000})) return i;
    }
    return 100;
  };
  CHECK(measured(0) < measured(0.005));
  CHECK(measured(0.005) < measured(0.1));
  CHECK(measured(0.1) < 100);
}

TEST_CASE("what takes little of a run's time is sampled less") {
  const auto groups = [](double share) {
    TripSampling sampling;
    sampling.start({.trips = 1e6, .even = 1e6, .loops = 10, .share = share}, kWindowUs);
    int passes = 0;
    for (double made = 0; made < 1e6; made += 1000) {
      const bool passing = sampling.windows_to_pass() > 0;
      passes +=
          sampling.add({.timed = passing ? 0U : 100U, .time = Time::from_us(100), .made = 1000}) ? 1 : 0;
    }
    return passes;
  };
  CHECK(groups(1) == 4);
  CHECK(groups(0.1) == 2);
  CHECK(groups(0.001) == 1);
}

TEST_CASE("a short kernel is sampled only where it takes next to nothing of a run") {
  const auto passes = [](double share) {
    TripSampling sampling;
    sampling.start({.trips = 40000, .even = 40000, .loops = 10, .share = share}, kWindowUs / 5, true);
    for (int window = 0; window < 40; ++window) {
      if (sampling.add({.timed = 100, .time = Time::from_us(100), .made = 1000})) return true;
    }
    return false;
  };
  CHECK_FALSE(passes(0.019));
  CHECK(passes(0.001));
}

TEST_CASE("trips longer than a window that end together: windows in which none does count too") {
  TripSampling sampling;
  sampling.start({.trips = 1e6, .even = 1e6, .loops = 300}, kWindowUs);
  sampling.set_steady(true);
  std::optional<TripSampling::Pass> pass;
  int windows = 0;
  for (; !pass && windows < 40; ++windows) {
    const bool ends = windows % 3 == 2;
    pass = sampling.add(
        {.timed = ends ? 300U : 0U, .time = Time::from_us(300 * 60.0), .made = ends ? 300.0 : 0.0});
  }
  REQUIRE(pass);
  CHECK(windows <= 9);
  CHECK(pass->each == Time::from_us(60));
  // As long as the trips to come take at the rate of all windows.
  CHECK(pass->windows > 0.4 * 1e6 / 150);
}

TEST_CASE("the next kernel plans its own stretches") {
  TripSampling sampling;
  const TripWindow window{.timed = 100, .time = Time::from_us(100), .made = 1000};
  const auto first = [&] {
    sampling.start({.trips = 1e6, .even = 1e6}, kWindowUs);
    std::optional<TripSampling::Pass> pass;
    while (!pass) pass = sampling.add(window);
    return pass->windows;
  };
  const std::uint32_t windows = first();
  while (sampling.holding()) sampling.add({.made = 1000});
  CHECK(first() == windows);
}

TEST_CASE("the interval covers windows that differ by chance and trips that slowly change") {
  // 1 +- 5 %, the same sequence every time.
  const auto noisy = [](std::uint32_t w) { return 1 + 0.05 * std::sin(w * 12.9898); };
  const Outcome by_chance = sample(132 * 20000, 132 * 20000, 132, noisy);
  CHECK(std::abs(by_chance.windows - 1000.0) <= by_chance.half_width + 1);
  CHECK(by_chance.half_width > 1);
  CHECK(by_chance.half_width < 100);

  const auto slower = [](std::uint32_t w) { return 1 + 0.1 * w / 1000; };
  const double exact = 1053.6;  // sum over windows of 20 / trip_us = 20000
  const Outcome drifting = sample(132 * 20000, 132 * 20000, 132, slower);
  CHECK(std::abs(drifting.windows - exact) <= drifting.half_width + 1);
  CHECK(drifting.half_width > 5);
  CHECK(drifting.half_width < 60);
}

}  // namespace
}  // namespace tessera::sim
