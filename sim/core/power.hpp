#pragma once
// The power governor: what SM clock the power limits leave. A part may draw peak_w until the mean of its
// power reaches cap_w, and cap_w from then on.

#include <cmath>
#include <limits>

#include "sim/core/hardware.hpp"

namespace tessera {

/// Mean powers over a window in which the SMs ran at `clock_mhz`.
struct PowerSample {
  double clock_mhz = 0;
  double sm_w = 0;      ///< dynamic, scaled to the voltage of clock_mhz already
  double memory_w = 0;  ///< dynamic, in domains whose voltage does not follow the SM clock
};

/// Dynamic energy per operation at `clock_mhz` relative to boost: voltage falls with frequency.
inline double voltage_scale(const PowerSpec& power, double boost_mhz, double clock_mhz) {
  return std::pow(clock_mhz / boost_mhz, power.voltage_exponent);
}

inline constexpr double kClockStepMhz = 15;  ///< of NVIDIA's clock tables

/// The highest clock, in steps, at which the same work stays below `limit_w` if its rate follows the clock.
/// Power at clock f: idle + sm_w (f/f0)^(1+voltage_exponent) + memory_w (f/f0).
inline double clock_within_mhz(const PowerSpec& power, double boost_mhz, const PowerSample& sample,
                               double limit_w) {
  const auto watts = [&](double mhz) {
    const double r = mhz / sample.clock_mhz;
    return power.idle_w + sample.sm_w * std::pow(r, 1 + power.voltage_exponent) + sample.memory_w * r;
  };
  double mhz = boost_mhz;
  while (mhz - kClockStepMhz >= power.min_clock_mhz && watts(mhz) > limit_w) mhz -= kClockStepMhz;
  return mhz;
}

/// How long `watts` may be drawn until their mean, `mean_w` by now, reaches the cap: without end if they stay
/// below it. The mean is exponential: it closes on `watts` with the time constant average_ms.
inline double time_to_cap_us(const PowerSpec& power, double mean_w, double watts) {
  if (mean_w >= power.cap_w) return 0;
  if (watts <= power.cap_w) return std::numeric_limits<double>::infinity();
  return power.average_ms * 1e3 * std::log((watts - mean_w) / (watts - power.cap_w));
}

}  // namespace tessera
