#include "sim/gpu/power_governor.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <filesystem>

#include "configs/reader/hardware.hpp"

namespace tessera::sim {
namespace {

const GpuSpec& h200() {
  static const GpuSpec spec =
      config::read_gpu(std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/hardware/h200_sxm.yaml");
  return spec;
}

/// A window of SM work that draws `watts` in all at boost clock.
WindowEnergy drawing(double watts, double us = 20) {
  return {.us = us, .sm_pj = (watts - h200().power.idle_w) * us * 1e6};
}

TEST_CASE("work within the peak power runs at boost clock, more brings the clock down to it") {
  PowerGovernor governor{h200(), 0};
  CHECK(governor.watts(drawing(500)) == Catch::Approx(500));
  governor.find_clock(drawing(h200().power.peak_w - 1));
  CHECK(governor.clock_mhz() == h200().boost_clock_mhz);
  CHECK(governor.free(h200().power.cap_w));
  CHECK_FALSE(governor.free(h200().power.cap_w + 1));
  governor.find_clock(drawing(1.3 * h200().power.peak_w));
  const double down = governor.clock_mhz();
  CHECK(down < h200().boost_clock_mhz);
  CHECK_FALSE(governor.free(100));
  // The same energy of each operation at the lower clock's voltage, and fewer of them: within the peak.
  const double rate = down / h200().boost_clock_mhz;
  WindowEnergy slower = drawing(1.3 * h200().power.peak_w);
  slower.sm_pj *= rate;
  CHECK(governor.watts(slower) <= h200().power.peak_w);
  CHECK(governor.watts(slower) > 0.95 * h200().power.peak_w);
}

TEST_CASE("the mean power reaches the cap when it was said to, and leaves it only well below") {
  PowerGovernor governor{h200(), 0};
  const double watts = 1.2 * h200().power.cap_w;
  const double told_us = governor.unwatched_us(watts, 0);
  double us = 0;
  while (!governor.capped() && us < 1e6) {
    governor.follow_mean(watts, 20);
    governor.look_at_cap();
    us += 20;
  }
  CHECK(us == Catch::Approx(told_us).margin(21));
  CHECK(std::isinf(governor.unwatched_us(watts, us)));
  governor.find_clock(drawing(watts));
  CHECK(governor.clock_mhz() < h200().boost_clock_mhz);
  governor.follow_mean(0.99 * h200().power.cap_w, 1e6);
  governor.look_at_cap();
  CHECK(governor.capped());
  governor.follow_mean(0.9 * h200().power.cap_w, 1e6);
  governor.look_at_cap();
  CHECK_FALSE(governor.capped());
}

TEST_CASE(
    "power below the cap, or hardly above it, may go unwatched without end; other for longer the later it "
    "is") {
  PowerGovernor governor{h200(), 0};
  CHECK(std::isinf(governor.unwatched_us(0.9 * h200().power.cap_w, 0)));
  CHECK(std::isinf(governor.unwatched_us(1.02 * h200().power.cap_w, 0)));
  const double soon = governor.unwatched_us(1.2 * h200().power.cap_w, 0);
  CHECK(std::isfinite(soon));
  CHECK(governor.unwatched_us(1.2 * h200().power.cap_w, 1000) == Catch::Approx(soon + 20));
}

TEST_CASE("a fixed clock stays, whatever is drawn") {
  PowerGovernor governor{h200(), 1500};
  CHECK(governor.fixed());
  governor.follow_mean(10 * h200().power.cap_w, 1e6);
  governor.look_at_cap();
  governor.find_clock(drawing(10 * h200().power.cap_w));
  CHECK_FALSE(governor.capped());
  CHECK(governor.clock_mhz() == 1500);
  CHECK(std::isinf(governor.unwatched_us(10 * h200().power.cap_w, 0)));
}

}  // namespace
}  // namespace tessera::sim
