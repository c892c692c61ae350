#pragma once
// The cost model in the place of the cycle model: kernels costed in closed form, in this process.

#include <map>
#include <string>
#include <unordered_map>

#include "models/cost/cost_model.hpp"
#include "sim/system/kernel_profile.hpp"

namespace tessera::sim {

cost::Conditions conditions_of(const KernelOptions& options);

/// As simulate_kernel's result; without statistics, activity and events, which are counts of a simulation.
KernelResult result_of(const cost::Cost& cost);

/// Kernels that this process has costed, for runs that follow one another in it. Results do not depend on it.
/// Not for several threads.
class CostMemory {
 public:
  using Results = std::unordered_map<std::string, KernelResult>;  ///< by KernelJob::key
  /// What is known of a GPU; `key`: a text that is equal only for equal ones.
  Results& of(const std::string& key);

 private:
  std::map<std::string, Results> gpus_;
};

/// As simulate_each: costs each job in turn, and calls `ended` with its index. Nothing is forked.
void cost_each(const std::vector<KernelJob>& jobs,
               const std::function<void(std::size_t, KernelOutcome&&)>& ended);

/// By a model of its own: one that has counted other kernels shares their demands, which are not exactly this
/// one's. Throws as simulate_all.
KernelResult cost_one(const KernelJob& job);

/// The same for results in order; throws as simulate_all. Jobs are for the machine's GPUs; `memory` may be
/// null.
std::vector<KernelResult> cost_all(const std::vector<KernelJob>& jobs, const MachineSpec& machine,
                                   const RunMemory& memory);

}  // namespace tessera::sim
