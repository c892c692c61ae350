#include "sim/gpu/sampling/window_length.hpp"

#include <algorithm>
#include <cmath>

namespace tessera::sim {

namespace {

constexpr double kFixedClockUs = 8, kShortUs = 4;  // about

double whole_refreshes_us(const HbmSpec& hbm, double about_us) {
  if (hbm.per_bank_refresh) return about_us;
  const double interval_us = hbm.trefi_ns * 1e-3;
  return interval_us * std::max(1.0, std::round(about_us / interval_us));
}

}  // namespace

double fixed_clock_window_us(const GpuSpec& gpu) { return whole_refreshes_us(gpu.hbm, kFixedClockUs); }

double short_window_us(const GpuSpec& gpu) {
  return std::min(governor_window_us(gpu), whole_refreshes_us(gpu.hbm, kShortUs));
}

}  // namespace tessera::sim
