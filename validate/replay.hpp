#pragma once
// What lies in the L2 when a kernel starts that has just run before, over and over.

#include "sim/core/hardware.hpp"
#include "sim/gpu/kernel_run.hpp"
#include "validate/measurement.hpp"

namespace tessera::validate {

/// An operand is warm if it, and all that was touched since its last use, fit in the L2 together. The runs
/// follow each other, each touching every operand once; weights come in turn (Conditions::weights_in_turn).
std::vector<std::uint32_t> warm_after_replay(const models::Operator& op, const Conditions& conditions,
                                             std::int64_t l2_bytes);

/// The options under which a simulated kernel stands for the measured one.
sim::KernelOptions options_of(const Measurement& row, const GpuSpec& gpu);

}  // namespace tessera::validate
