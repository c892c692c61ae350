#include "sim/gpu/sampling/sampling_plan.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <filesystem>

#include "configs/reader/hardware.hpp"
#include "sim/gpu/sampling/window_length.hpp"

namespace tessera::sim {
namespace {

const GpuSpec& h200() {
  static const GpuSpec spec =
      config::read_gpu(std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/hardware/h200_sxm.yaml");
  return spec;
}

/// Of CTAs of which an SM holds one.
tile::LaunchShape shape_of(std::uint32_t grid, std::uint64_t trips, std::uint64_t even) {
  tile::LaunchShape shape;
  shape.grid = grid;
  shape.roles = {{"warps", 32}};
  shape.registers_per_cta = h200().sm.registers;
  shape.trips = trips;
  shape.even_trips = even;
  return shape;
}

TEST_CASE("windows hold whole refreshes of all banks, and are the governor's while it looks for its clock") {
  const double refresh_us = h200().hbm.trefi_ns * 1e-3;
  for (const double us : {short_window_us(h200()), fixed_clock_window_us(h200())})
    CHECK(us / refresh_us == Catch::Approx(std::round(us / refresh_us)));
  CHECK(short_window_us(h200()) < fixed_clock_window_us(h200()));
  CHECK(fixed_clock_window_us(h200()) < governor_window_us(h200()));
  GpuSpec by_bank = h200();
  by_bank.hbm.per_bank_refresh = true;
  CHECK(short_window_us(by_bank) != short_window_us(h200()));
  GpuSpec eager = h200();
  eager.power.window_us = 1;
  CHECK(short_window_us(eager) == 1);
}

TEST_CASE("what is exact, or has no loops, is not sampled") {
  CHECK(plan_sampling(shape_of(132, 1000, 1000), h200(), {.exact = true}, {}).count.trips == 0);
  CHECK(plan_sampling(shape_of(132, 0, 0), h200(), {}, {}).count.trips == 0);
  CHECK(plan_sampling(shape_of(132, 1000, 1000), h200(), {}, {}).count.trips == 1000);
}

TEST_CASE("until when all SMs have work: as the kernel says, or until the last whole wave of its CTAs") {
  const auto count = [](std::uint32_t grid, std::uint64_t even) {
    return plan_sampling(shape_of(grid, 10000, even), h200(), {}, {}).count;
  };
  CHECK(count(132, 7000).even == 7000);
  CHECK(count(132, 7000).loops == 132);
  CHECK(count(2 * 132 + 1, 7000).even == Catch::Approx(10000.0 * 264 / 265));
  CHECK(count(2 * 132 + 1, 7000).loops == 132);
  CHECK_FALSE(count(2 * 132 + 66, 7000).ends_alike);
  CHECK(count(200 * 132 + 66, 7000).ends_alike);
}

TEST_CASE("what takes little of a run has short windows from the start, and ends as it goes on") {
  const auto plan = [](double share, std::uint64_t even, double fixed_mhz = 0) {
    return plan_sampling(shape_of(132, 10000, even), h200(), {.fixed_clock_mhz = fixed_mhz, .share = share},
                         {});
  };
  CHECK_FALSE(plan(1, 10000).short_windows);
  CHECK_FALSE(plan(1, 10000).count.ends_alike);
  CHECK(plan(0.001, 10000).short_windows);
  CHECK(plan(0.001, 10000).window_us == short_window_us(h200()));
  CHECK(plan(0.001, 10000).count.ends_alike);
  CHECK_FALSE(plan(0.001, 9000).count.ends_alike);
  // At a fixed clock windows are short anyway, and caches are taken to be as the replay before left them.
  CHECK(plan(1, 10000, 1500).short_windows);
  CHECK_FALSE(plan(0.001, 10000, 1500).count.ends_alike);
  CHECK(plan(1, 10000, 1500).count.fills == Time{});
  CHECK(plan(1, 10000).count.fills > Time{});
}

}  // namespace
}  // namespace tessera::sim
