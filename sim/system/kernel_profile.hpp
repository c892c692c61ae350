#pragma once
// The first pass of a run: every distinct kernel of a task graph, simulated once, in worker processes.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>
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

/// Runs each job in a forked process, at most `processes` at a time (0: one per core), by order_of
/// (sim/system/pace.hpp), and calls `ended` with the index of each job as it ends. The caller must not have
/// created a SystemC object yet.
void simulate_each(const std::vector<KernelJob>& jobs, int processes, const Simulate& simulate,
                   const std::function<void(std::size_t, KernelOutcome&&)>& ended,
                   const std::function<void(const WorkDone&)>& progress);

/// Runs each job in a forked process, at most `processes` at a time, and returns the results in order. The
/// caller must not have created a SystemC object yet. A job's std::invalid_argument is rethrown as such, any
/// other failure as std::runtime_error with the kernel's name.
std::vector<KernelResult> simulate_all(const std::vector<KernelJob>& jobs, int processes,
                                       const Simulate& simulate,
                                       const std::function<void(const WorkDone&)>& progress);

/// Which kernels a graph's tasks run, whatever they cost: a matter of the graph, the GPUs' names, the sizes
/// of their L2s and whether they are one kind.
struct KernelPlan {
  static constexpr std::uint32_t kNone = UINT32_MAX;
  struct Instance {
    std::int64_t context = 0;      ///< of decode attention
    std::uint32_t family = kNone;  ///< of decode attention: alike but for the context; index of `samples`
    std::uint32_t job = kNone;     ///< of `jobs`; none: interpolated in its family
    models::NodeKind node = models::NodeKind::comp;
    bool runs = false;  ///< else a message
  };
  std::vector<Instance> instances;  ///< parallel to TaskGraph::tasks
  std::vector<KernelJob> jobs;      ///< distinct kernels; `gpu` is for whoever prices them to set
  std::vector<models::NodeKind> node_of_job;
  std::vector<std::string> signatures;                         ///< of jobs
  std::vector<std::map<std::int64_t, std::uint32_t>> samples;  ///< jobs of a family by context
};
KernelPlan plan_kernels(const models::TaskGraph& graph, const MachineSpec& spec, const RunOptions& options);

/// The plans made last, for runs of few graphs on few sizes of L2. Results do not depend on it.
class PlanMemory {
 public:
  /// `graph_key`: a text that is equal only for equal graphs. The reference holds until the next call.
  KernelPlan& of(const std::string& graph_key, const models::TaskGraph& graph, const MachineSpec& spec,
                 const RunOptions& options);

 private:
  std::unordered_map<std::string, KernelPlan> plans_;
};

/// What each Compute task costs, and the distinct kernels behind it.
struct KernelProfile {
  std::vector<KernelUse> kernels;
  std::vector<std::uint32_t> kernel_of_task;  ///< UINT32_MAX for transfers
  std::vector<Time> duration_of_task;
  double ci95_percent = 0;
  std::shared_ptr<const Recording> recording;  ///< of the kernel that takes most time, if it is asked for
  std::uint32_t recorded_kernel = UINT32_MAX;
};

/// An operand counts as warm in L2 if fewer bytes than the L2 holds were touched on its node since its last
/// use. Unless `exact`, decode attention is simulated at the least, the middle and the greatest context and
/// interpolated linearly between them; contexts that are alike to 0.1 % are simulated once. The confidence
/// interval is of the summed kernel time: the kernels' own intervals, those of one kernel's instances alike
/// and of distinct kernels independent, and the interpolation's error at the middle.
KernelProfile profile_kernels(const models::TaskGraph& graph, const MachineSpec& spec,
                              const RunOptions& options, const Simulate& simulate);

}  // namespace tessera::sim
