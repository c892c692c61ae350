#pragma once
// One row, looked at closely: which part of a simulated call is off.

#include <string>

#include "sim/core/hardware.hpp"
#include "sim/gpu/kernel_run.hpp"
#include "validate/measurement.hpp"

namespace tessera::validate {

/// Text: the whole, the call's kernels as simulated beside its stages as measured, the rates that both times
/// stand for against the part's peaks, and what the simulator says limits it. `result` with statistics.
std::string explain(const Measurement& row, const sim::KernelResult& result, const GpuSpec& gpu);

}  // namespace tessera::validate
