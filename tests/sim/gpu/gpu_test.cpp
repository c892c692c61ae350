#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "sim/gpu/front_end.hpp"
#include "sim/gpu/l2/tag_store.hpp"
#include "sim/gpu/power.hpp"
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
  CHECK(resident_ctas(sm, shape) == 8);  // 2048 threads / 256
  shape.registers_per_cta = 32768;
  CHECK(resident_ctas(sm, shape) == 2);
  shape.shared_bytes = 200'000;
  CHECK(resident_ctas(sm, shape) == 1);
  shape.shared_bytes = sm.shared_bytes_per_cta + 1;
  CHECK_THROWS_AS(resident_ctas(sm, shape), std::invalid_argument);
}

TEST_CASE("the tag store replaces what was not used recently, never what is in flight") {
  TagStore tags{2};
  for (std::uint32_t line = 0; line < 16; ++line) {
    const std::uint32_t slot = tags.victim(0);
    tags.replace(slot, line);
    tags.touch(slot);
  }
  CHECK(tags.find(0, 15) != TagStore::kNoWay);
  CHECK(tags.find(1, 15) == TagStore::kNoWay);
  tags.touch(tags.find(0, 3));
  const std::uint32_t victim = tags.victim(0);
  CHECK(tags.line(victim) != 3);
  CHECK(tags.line(victim) != 15);
  for (std::uint32_t line = 0; line < 16; ++line) tags.set_pending(tags.find(0, line), true);
  CHECK(tags.victim(0) == TagStore::kNoWay);
}

TEST_CASE("the governor lowers the clock until the power fits, no further") {
  PowerSpec p;
  p.cap_w = 700;
  p.idle_w = 100;
  p.voltage_exponent = 2;
  p.min_clock_mhz = 1000;
  CHECK(sustained_clock_mhz(p, 1980, {.clock_mhz = 1980, .sm_w = 500, .memory_w = 50}) == 1980);
  const double mhz = sustained_clock_mhz(p, 1980, {.clock_mhz = 1980, .sm_w = 1000, .memory_w = 0});
  // idle + 1000 (f / 1980)^3 = 700.
  CHECK(mhz == Catch::Approx(1980 * std::cbrt(0.6)).margin(15));
  CHECK(sustained_clock_mhz(p, 1980, {.clock_mhz = 1980, .sm_w = 1e6, .memory_w = 0}) >= 1000);
  CHECK(voltage_scale(p, 1980, 990) == Catch::Approx(0.25));
}

}  // namespace
}  // namespace tessera::sim
