#pragma once
// How long the windows are into which sampling cuts a kernel's time.
//
// Refreshes of all banks stop the HBM at the same times: windows that hold equal numbers of them are alike,
// so short windows are whole refresh intervals.

#include "sim/core/hardware.hpp"

namespace tessera::sim {

/// Those of the power governor, as long as it looks for its clock.
inline double governor_window_us(const GpuSpec& gpu) { return gpu.power.window_us; }
/// Where the clock is fixed nothing but sampling looks at windows.
double fixed_clock_window_us(const GpuSpec& gpu);
/// Where the clock need not be found any more, and windows see many trips, a part of one shows as much. Not
/// longer than a governor's.
double short_window_us(const GpuSpec& gpu);

}  // namespace tessera::sim
