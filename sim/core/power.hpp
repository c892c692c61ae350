#pragma once
// The power governor: what SM clock a power cap leaves.

#include <cmath>

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

/// The highest clock, in steps of 15 MHz, at which the same work stays below the cap if its rate follows
/// the clock. Power at clock f: idle + sm_w (f/f0)^(1+voltage_exponent) + memory_w (f/f0).
inline double sustained_clock_mhz(const PowerSpec& power, double boost_mhz, const PowerSample& sample) {
  constexpr double kStepMhz = 15;  // NVIDIA's clock table
  const auto watts = [&](double mhz) {
    const double r = mhz / sample.clock_mhz;
    return power.idle_w + sample.sm_w * std::pow(r, 1 + power.voltage_exponent) + sample.memory_w * r;
  };
  double mhz = boost_mhz;
  while (mhz - kStepMhz >= power.min_clock_mhz && watts(mhz) > power.cap_w) mhz -= kStepMhz;
  return mhz;
}

}  // namespace tessera
