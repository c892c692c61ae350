#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <random>
#include <vector>

#include "kernels/tile/occupancy.hpp"
#include "sim/core/power.hpp"
#include "sim/gpu/front_end.hpp"
#include "sim/gpu/l2/tag_store.hpp"
#include "sim/gpu/sm/mbarrier.hpp"

namespace tessera::sim {
namespace {

TEST_CASE("an mbarrier's phase ends when arrivals and bytes are in, at the latest of them") {
  Mbarrier b{2};
  CHECK(b.passed(1));  // the phase before the first counts as complete
  CHECK(!b.passed(0));
  CHECK(!b.book(Time::nanoseconds(5), 1, 100, 0));
  CHECK(!b.book(Time::nanoseconds(9), 0, 0, 100));
  CHECK(!b.passed(0));
  CHECK(b.book(Time::nanoseconds(7), 1, 0, 0));
  CHECK(b.passed(0));
  CHECK(!b.passed(1));
  CHECK(b.completed_at() == Time::nanoseconds(9));
}

TEST_CASE("bytes may arrive before they are expected") {
  Mbarrier b{1};
  CHECK(!b.book(Time::nanoseconds(1), 0, 0, 64));
  CHECK(b.book(Time::nanoseconds(2), 1, 64, 0));
}

TEST_CASE("occupancy follows the scarcest resource") {
  const SmSpec sm;
  tile::LaunchShape shape;
  shape.roles = {{"warps", 8}};
  CHECK(tile::resident_ctas(sm, shape) == 8);  // 2048 threads / 256
  shape.registers_per_cta = 32768;
  CHECK(tile::resident_ctas(sm, shape) == 2);
  shape.shared_bytes = 200'000;
  CHECK(tile::resident_ctas(sm, shape) == 1);
  shape.shared_bytes = sm.shared_bytes_per_cta + 1;
  CHECK_THROWS_AS(tile::resident_ctas(sm, shape), std::invalid_argument);
}

TEST_CASE("a tag set replaces what was not used recently, never what is in flight") {
  TagSet set;
  const auto fill = [&](std::uint32_t tag) {
    const unsigned way = set.victim();
    set.replace(way, tag);
    set.touch(way);
  };
  CHECK(set.find(0) == TagSet::kNoWay);
  CHECK(set.find(0xffff) == TagSet::kNoWay);
  for (std::uint32_t tag = 0; tag < 16; ++tag)
    fill(tag << 12U);  // tags that differ in the upper four bits alone too
  for (std::uint32_t tag = 0; tag < 16; ++tag) CHECK(set.tag(set.find(tag << 12U)) == tag << 12U);
  set.touch(set.find(3 << 12U));
  const unsigned victim = set.victim();
  CHECK(set.tag(victim) != 3 << 12U);
  CHECK(set.tag(victim) != 15 << 12U);
  set.add_valid(victim, 0x5);
  set.add_dirty(victim, 0x4);
  CHECK(set.valid(victim) == 0x5);
  CHECK(set.dirty(victim) == 0x4);
  set.replace(victim, 77);
  CHECK(set.valid(victim) == 0);
  CHECK(set.dirty(victim) == 0);
  for (unsigned way = 0; way < TagSet::kWays; ++way) set.set_pending(way, true);
  CHECK(set.victim() == TagSet::kNoWay);
}

TEST_CASE("the set map is a bijection, steps as it says, and spreads strides over all sets") {
  for (const std::uint32_t sets : {96U * 320U, 80U * 256U, 7U, 4096U}) {
    const SetMap map{sets};
    std::mt19937_64 random{sets};
    for (int i = 0; i < 2'000; ++i) {
      const std::uint64_t run = random() % (std::uint64_t{sets} << 18U), step = random() % 100'000;
      const SetMap::Place place = map.place(run), next = map.sum(place, map.place(step));
      REQUIRE(place.set < sets);
      REQUIRE(map.run(place.set, place.tag(1)) == run);
      REQUIRE(next.set == map.place(run + step).set);
      REQUIRE(next.tag(0) == map.place(run + step).tag(0));
    }
  }
  const std::uint32_t sets = 96 * 320;
  const SetMap map{sets};
  int uneven = 0;
  for (std::uint64_t stride = 1; stride <= 512; ++stride) {
    std::vector<int> slices(96);
    for (std::uint64_t i = 0; i < 96 * 64; ++i) ++slices[map.place(i * stride).set / 320];
    const double most = *std::max_element(slices.begin(), slices.end()) / 64.0;
    INFO("stride " << stride);
    CHECK(most <= 2.2);
    uneven += most > 1.3 ? 1 : 0;  // what 64 thrown at random on each of 96 slices would reach
  }
  CHECK(uneven <= 25);
}

TEST_CASE("the governor lowers the clock until the power fits, no further") {
  PowerSpec p;
  p.cap_w = 700;
  p.idle_w = 100;
  p.voltage_exponent = 2;
  p.min_clock_mhz = 1000;
  CHECK(clock_within_mhz(p, 1980, {.clock_mhz = 1980, .sm_w = 500, .memory_w = 50}, 700) == 1980);
  const double mhz = clock_within_mhz(p, 1980, {.clock_mhz = 1980, .sm_w = 1000, .memory_w = 0}, 700);
  // idle + 1000 (f / 1980)^3 = 700.
  CHECK(mhz == Catch::Approx(1980 * std::cbrt(0.6)).margin(15));
  CHECK(clock_within_mhz(p, 1980, {.clock_mhz = 1980, .sm_w = 1e6, .memory_w = 0}, 700) >= 1000);
  CHECK(voltage_scale(p, 1980, 990) == Catch::Approx(0.25));
}

TEST_CASE("the mean power reaches the cap the sooner the more is drawn, and never below it") {
  PowerSpec p;
  p.cap_w = 700;
  p.average_ms = 25;
  // 100 + 800 (1 - exp(-t / 25 ms)) = 700.
  CHECK(time_to_cap_us(p, 100, 900) == Catch::Approx(25e3 * std::log(4)));
  CHECK(time_to_cap_us(p, 400, 900) < time_to_cap_us(p, 100, 900));
  CHECK(time_to_cap_us(p, 100, 1000) < time_to_cap_us(p, 100, 900));
  CHECK(std::isinf(time_to_cap_us(p, 100, 700)));
  CHECK(time_to_cap_us(p, 700, 900) == 0);
}

}  // namespace
}  // namespace tessera::sim
