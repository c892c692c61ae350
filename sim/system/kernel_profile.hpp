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
  std::string key;  ///< equal for kernels that cost the same
};

/// Simulates one job; injected so that tests need no GPU model.
using Simulate = std::function<KernelResult(const KernelJob&)>;

/// How one job ended: with a result, unless one of the texts says why not.
struct KernelOutcome {
  KernelResult result;
  std::string invalid;  ///< a shape or dtype that no kernel supports
  std::string failure;  ///< anything else, with the kernel's name
};

/// A rough length of the kernel, in seconds on a GPU.
double rough_seconds(const KernelJob& job);

/// Runs each job in a forked process, at most `processes` at a time (0: one per core), the longest first, and
/// calls `ended` with the index of each job as it ends. The caller must not have created a SystemC object
/// yet.
void simulate_each(const std::vector<KernelJob>& jobs, int processes, const Simulate& simulate,
                   const std::function<void(std::size_t, KernelOutcome&&)>& ended,
                   const std::function<void(const WorkDone&)>& progress);

/// Runs each job in a forked process, at most `processes` at a time, and returns the results in order. The
/// caller must not have created a SystemC object yet. A job's std::invalid_argument is rethrown as such, any
/// other failure as std::runtime_error with the kernel's name.
std::vector<KernelResult> simulate_all(const std::vector<KernelJob>& jobs, int processes,
                                       const Simulate& simulate,
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
/// interpolated linearly between them; contexts that are alike to 0.1 % are simulated once. The confidence
/// interval is of the summed kernel time: the kernels' own intervals, those of one kernel's instances alike
/// and of distinct kernels independent, and the interpolation's error at the middle.
KernelProfile profile_kernels(const models::TaskGraph& graph, const MachineSpec& spec,
                              const RunOptions& options, const Simulate& simulate);

}  // namespace tessera::sim
