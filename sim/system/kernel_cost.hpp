#pragma once
// The cost model in the place of the cycle model: kernels costed in closed form, in this process.

#include "models/cost/cost_model.hpp"
#include "sim/system/kernel_profile.hpp"

namespace tessera::sim {

cost::Conditions conditions_of(const KernelOptions& options);

/// As simulate_kernel's result; without statistics, activity and events, which are counts of a simulation.
KernelResult result_of(const cost::Cost& cost);

/// As simulate_each: costs each job in turn, and calls `ended` with its index. Nothing is forked.
void cost_each(const std::vector<KernelJob>& jobs,
               const std::function<void(std::size_t, KernelOutcome&&)>& ended);

/// The same for results in order; throws as simulate_all.
std::vector<KernelResult> cost_all(const std::vector<KernelJob>& jobs);

}  // namespace tessera::sim
