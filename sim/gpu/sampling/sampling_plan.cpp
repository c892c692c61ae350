#include "sim/gpu/sampling/sampling_plan.hpp"

#include <algorithm>
#include <cstddef>

#include "kernels/tile/occupancy.hpp"
#include "sim/gpu/sampling/share.hpp"
#include "sim/gpu/sampling/window_length.hpp"

namespace tessera::sim {

namespace {

// What is written stays in the L2 until that is full, which writes at half the HBM's rate take twice as long
// as the HBM to fill it; and write-backs are not steady at once.
constexpr double kFills = 3;
constexpr double kManyWaves = 0.99;  // of a kernel's trips, before the first SM runs out of work

}  // namespace

SamplingPlan plan_sampling(const tile::LaunchShape& shape, const GpuSpec& gpu, const KernelOptions& options,
                           Time before) {
  const bool fixed = options.fixed_clock_mhz > 0;
  const double whole_us = fixed ? fixed_clock_window_us(gpu) : governor_window_us(gpu);
  if (options.exact || shape.trips == 0) return {.window_us = whole_us, .short_windows = fixed};

  const std::size_t resident =
      std::size_t{tile::resident_ctas(gpu.sm, shape)} * static_cast<std::size_t>(gpu.sms());
  const auto trips = static_cast<double>(shape.trips);
  // Where SMs take CTA after CTA, all of them have one until the last wave.
  const bool waves = shape.grid > resident;
  const double even = waves ? trips * static_cast<double>(shape.grid / resident * resident) / shape.grid
                            : static_cast<double>(shape.even_trips);
  SamplingPlan plan{.count = {.trips = trips,
                              .even = even,
                              .loops = static_cast<double>(std::min<std::size_t>(shape.grid, resident)),
                              .share = options.share,
                              .before = before},
                    .window_us = whole_us,
                    .short_windows = fixed};
  if (fixed) return plan;
  plan.count.fills = Time::from_us(kFills * static_cast<double>(gpu.l2.bytes) / gpu.hbm.peak_bytes_per_us());
  // The end of a grid of many waves is less than what windows do not show anyway.
  plan.count.ends_alike =
      (waves && even > kManyWaves * trips) || (takes_little(options.share) && even >= trips);
  if (takes_little(options.share)) {
    // A clock that is a step off for some time matters as little.
    plan.window_us = short_window_us(gpu);
    plan.short_windows = plan.window_us != whole_us;
  }
  return plan;
}

}  // namespace tessera::sim
