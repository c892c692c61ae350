#include "sim/gpu/sampling/measured_windows.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

namespace tessera::sim {
namespace {

TEST_CASE("clock and power are the group's that goes on or ended last, weighted by time") {
  MeasuredWindows seen{2};
  CHECK(seen.empty());
  seen.add(1000, 100, 10);
  seen.add(2000, 400, 20);
  CHECK(seen.clock_mhz() == 1500);
  CHECK(seen.watts() == 300);
  seen.end_group();
  CHECK(seen.empty());
  CHECK(seen.clock_mhz() == 1500);
  seen.add(500, 50, 1);
  CHECK_FALSE(seen.empty());
  CHECK(seen.clock_mhz() == 500);
}

TEST_CASE("passed trips move what those of their own kernel moved before, whatever is measured later") {
  MeasuredWindows seen{1};
  CHECK(seen.hbm_bytes_of(100) == 0);
  seen.add_traffic({.loads = 1000, .hbm_read = 400, .hbm = 500});
  seen.begin_pass();
  CHECK(seen.hbm_bytes_of(100) == 50);
  seen.start_kernel();
  CHECK(seen.loads() == 0);
  seen.add_traffic({.loads = 1000, .hbm_read = 0, .hbm = 100});
  CHECK(seen.hbm_bytes_of(100) == 50);  // the last stretch of the kernel before is booked now
  seen.begin_pass();
  CHECK(seen.hbm_bytes_of(100) == 10);
}

TEST_CASE("a GPC's trips take as much longer as its windows say") {
  MeasuredWindows seen{2};
  seen.add_trips(0, {.timed = 10, .time = Time::from_us(10)});
  seen.add_trips(1, {.timed = 10, .time = Time::from_us(30)});
  CHECK(seen.longer_in(0) == Catch::Approx(0.5));
  CHECK(seen.longer_in(1) == Catch::Approx(1.5));
  seen.end_group();
  seen.add_trips(0, {.timed = 1, .time = Time::from_us(1)});
  CHECK(seen.longer_in(1) == 1);  // nothing seen of it yet
}

}  // namespace
}  // namespace tessera::sim
