#pragma once
// The first pass of a run: every distinct kernel of a task graph, simulated once, in worker processes.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sim/system/machine.hpp"

namespace tessera::sim {

/// One kernel to simulate.
struct KernelJob {
  const GpuSpec* gpu = nullptr;
  models::Operator op;
  KernelOptions options;
  std::string key;                  ///< equal for kernels that cost the same
};

/// Simulates one job; injected so that tests need no GPU model.
using Simulate = std::function<KernelResult(const KernelJob&)>;

/// Runs each job in a forked process, at most `jobs` at a time, and returns the results in order. The caller
/// must not have created a SystemC object yet. A job's std::invalid_argument is rethrown as such, any other
/// failure as std::runtime_error with the kernel's name.
std::vector<KernelResult> simulate_all(const std::vector<KernelJob>& jobs, int processes, const Simulate& simulate,
                                       const std::function<void(const WorkDone&)>& progress);

/// What each Compute task costs, and the distinct kernels behind it.
struct KernelProfile {
  std::vector<KernelUse> kernels;
  std::vector<std::uint32_t> kernel_of_task;  ///< UINT32_MAX for transfers
  std::vector<Time> duration_of_task;
  double ci95_percent = 0;
};

/// An operand counts as warm in L2 if fewer bytes than the L2 holds were touched on its node since its last
/// use. Unless `exact`, decode attention is simulated at the least, the middle and the greatest context and
/// interpolated linearly between them; the interpolation's error at the middle, weighted by its share of all
/// kernel time, is the confidence interval.
KernelProfile profile_kernels(const models::TaskGraph& graph, const MachineSpec& spec, const RunOptions& options,
                              const Simulate& simulate);

}  // namespace tessera::sim
