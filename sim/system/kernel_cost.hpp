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

/// What this process has costed on one GPU.
struct GpuCosts {
  explicit GpuCosts(const GpuSpec& gpu) : model{gpu} {}
  cost::CostModel model;
  std::unordered_map<std::string, KernelResult> results;  ///< by KernelJob::key
};

/// The same of all GPUs, for runs that follow one another in this process. Results do not depend on it. Not
/// for several threads.
class CostMemory {
 public:
  /// `key`: a text that is equal only for equal GPUs. The reference holds until the next call.
  GpuCosts& of(const std::string& key, const GpuSpec& gpu);

 private:
  std::map<std::string, GpuCosts> gpus_;
};

/// As simulate_each: costs each job in turn, and calls `ended` with its index. Nothing is forked.
void cost_each(const std::vector<KernelJob>& jobs,
               const std::function<void(std::size_t, KernelOutcome&&)>& ended);

/// `model`: of the job's GPU. Throws as simulate_all.
KernelResult cost_one(cost::CostModel& model, const KernelJob& job);

/// The same for results in order; throws as simulate_all. Jobs are for the machine's GPUs; `memory` may be
/// null.
std::vector<KernelResult> cost_all(const std::vector<KernelJob>& jobs, const MachineSpec& machine,
                                   const RunMemory& memory);

}  // namespace tessera::sim
