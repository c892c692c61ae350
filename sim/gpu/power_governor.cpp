#include "sim/gpu/power_governor.hpp"

#include <cmath>
#include <limits>

#include "sim/core/power.hpp"

namespace tessera::sim {

namespace {

constexpr double kCapped = 0.95;  // of the cap: below, the mean power has room for the peak again
// Unwatched work may go on beyond the moment at which the mean power reaches the cap for so much of the time
// so far: close to the cap, when that will be is not known much better, and the clock hardly changes there.
constexpr double kBeyondCap = 0.02;
// A power this close above the cap costs one step of the clock at most: not worth looking for.
constexpr double kNearCap = 1.03;

constexpr double kWattsPerPjUs = 1e-6;

}  // namespace

PowerGovernor::PowerGovernor(const GpuSpec& gpu, double fixed_clock_mhz)
    : gpu_{gpu},
      fixed_{fixed_clock_mhz > 0},
      clock_mhz_{fixed_ ? fixed_clock_mhz : gpu.boost_clock_mhz},
      mean_w_{gpu.power.idle_w} {}

double PowerGovernor::dynamic_pj(const WindowEnergy& window) const {
  return window.sm_pj * voltage_scale(gpu_.power, gpu_.boost_clock_mhz, clock_mhz_) + window.memory_pj;
}

double PowerGovernor::watts(const WindowEnergy& window) const {
  return gpu_.power.idle_w + dynamic_pj(window) / window.us * kWattsPerPjUs;
}

void PowerGovernor::follow_mean(double watts, double us) {
  mean_w_ += (watts - mean_w_) * -std::expm1(-us / (gpu_.power.average_ms * 1e3));
}

void PowerGovernor::look_at_cap() {
  if (!fixed_) capped_ = mean_w_ >= (capped_ ? kCapped : 1.0) * gpu_.power.cap_w;
}

void PowerGovernor::find_clock(const WindowEnergy& window) {
  if (fixed_) return;
  const double sm_pj = window.sm_pj * voltage_scale(gpu_.power, gpu_.boost_clock_mhz, clock_mhz_);
  clock_mhz_ = clock_within_mhz(gpu_.power, gpu_.boost_clock_mhz,
                                {.clock_mhz = clock_mhz_,
                                 .sm_w = sm_pj / window.us * kWattsPerPjUs,
                                 .memory_w = window.memory_pj / window.us * kWattsPerPjUs},
                                capped_ ? gpu_.power.cap_w : gpu_.power.peak_w);
}

bool PowerGovernor::free(double watts) const {
  return clock_mhz_ == gpu_.boost_clock_mhz && watts <= gpu_.power.cap_w;
}

double PowerGovernor::unwatched_us(double watts, double now_us) const {
  if (capped_ || fixed_ || watts < kNearCap * gpu_.power.cap_w)
    return std::numeric_limits<double>::infinity();
  return time_to_cap_us(gpu_.power, mean_w_, watts) + kBeyondCap * now_us;
}

}  // namespace tessera::sim
