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

/// Calls in a replay: one for each copy of the weights, of which no more are made than it takes to keep them
/// out of the L2.
std::uint32_t launches_in_replay(const Measurement& row, std::int64_t l2_bytes);

/// What is measured of a call that takes `latency_us`. The clock starts on an idle GPU, before the host has
/// launched the first graph; and replays follow no faster than the host launches them:
///   max(latency, host_graph / calls) + (host_graph + host_launch) / (calls * replays)
double replayed_us(const Measurement& row, double latency_us, const GpuSpec& gpu);

/// The options under which a simulated kernel stands for the measured one.
sim::KernelOptions options_of(const Measurement& row, const GpuSpec& gpu);

}  // namespace tessera::validate
