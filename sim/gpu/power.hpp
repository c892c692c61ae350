#pragma once
// The power governor: what SM clock a power cap leaves.

#include "sim/core/hardware.hpp"

namespace tessera::sim {

/// Mean powers over a window in which the SMs ran at `clock_mhz`.
struct PowerSample {
  double clock_mhz = 0;
  double sm_w = 0;      ///< dynamic, scaled to the voltage of clock_mhz already
  double memory_w = 0;  ///< dynamic, in domains whose voltage does not follow the SM clock
};

/// Dynamic energy per operation at `clock_mhz` relative to boost: voltage falls with frequency.
double voltage_scale(const PowerSpec& power, double boost_mhz, double clock_mhz);

/// The highest clock, in steps of 15 MHz, at which the same work stays below the cap if its rate follows
/// the clock. Power at clock f: idle + sm_w (f/f0)^(1+voltage_exponent) + memory_w (f/f0).
double sustained_clock_mhz(const PowerSpec& power, double boost_mhz, const PowerSample& sample);

}  // namespace tessera::sim
