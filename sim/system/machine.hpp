#pragma once
// A whole machine: nodes with GPUs, joined by a fabric, running a task graph.
//
// Two passes. First every *distinct* kernel of the graph (same operator, same GPU, same operands warm in
// L2) runs once on a cycle-level GPU, in worker processes. Then the machine itself runs, as SystemC
// modules: each node executes its tasks in order, a kernel occupying its GPU for the simulated time, each
// message crossing NIC and switches packet by packet. `exact` simulates every kernel instance instead; `cost`
// does without SystemC: kernels from the cost model, messages as flows that share links
// (models/cost/schedule.hpp).

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/dataflow/task_graph.hpp"
#include "sim/core/hardware.hpp"
#include "sim/core/time.hpp"
#include "sim/gpu/kernel_run.hpp"

namespace tessera::sim {

class CostMemory;
struct Recording;
class PlanMemory;

struct MachineSpec {
  GpuSpec comp_gpu, attn_gpu;
  FabricSpec fabric;
  /// Texts that are equal only for equal GPUs, within a process. Both empty: GPUs of one name are equal.
  std::string comp_key, attn_key;
};

/// How far a run's kernel simulations are.
struct WorkDone {
  std::size_t done = 0, total = 0;  ///< kernels
  double share = 0;  ///< of the whole work: what was done, over that and what is expected to be left
  std::string what;  ///< the kernel just ended, or the one that has been running for longest
};

struct KernelJob;

/// What runs before this one in the process have found out.
struct RunMemory {
  CostMemory* costs = nullptr;  ///< needs MachineSpec's keys
  PlanMemory* plans = nullptr;
  std::string graph_key;  ///< for `plans`: equal only for equal graphs
};

struct RunOptions {
  bool exact = false;
  bool cost = false;          ///< the cost model instead of the cycle model, of kernels and of the network
  bool record = false;        ///< cycle model: the kernel that takes most time, once more, for a timeline
  bool link_activity = true;  ///< cost model: whether LinkUse::activity is wanted
  RunMemory memory;           ///< only the speed depends on it
  int jobs = 0;               ///< worker processes; 0: one per core
  std::uint64_t seed = 1;
  bool cuda_graph = true;
  /// If given, instead of either model: prices kernels that are asked for again and again.
  std::function<std::vector<KernelResult>(const std::vector<KernelJob>&)> price;
  std::function<void(const WorkDone&)> progress;  ///< called at each end of a kernel, and twice a second
};

struct TaskTiming {
  Time start, end;  ///< of the kernel on its GPU; of the message, from the NIC's order to its last byte there
  std::uint32_t kernel = UINT32_MAX;  ///< index into RunResult::kernels; UINT32_MAX for a transfer
};

struct NodeUse {    ///< shares of peak over the run's latency
  double busy = 0;  ///< GPU has a kernel
  double tensor = 0, hbm = 0, l2 = 0, mufu = 0;
  double link_out = 0, link_in = 0;
  std::int64_t bytes_out = 0, bytes_in = 0;
  double energy_j = 0;
  std::int64_t memory_bytes = 0;
};

struct LinkUse {
  std::string name;        ///< "comp0 -> switch0"
  std::int64_t bytes = 0;  ///< payload
  double utilization = 0;
  std::vector<Activity> activity;  ///< by window, idle windows left out
};

struct KernelUse {
  std::string signature;
  KernelResult result;
  std::uint64_t instances = 0;
};

struct RunResult {
  Time latency;
  std::vector<TaskTiming> tasks;  ///< parallel to TaskGraph::tasks
  std::vector<NodeUse> nodes;     ///< parallel to TaskGraph::nodes
  std::vector<LinkUse> links;
  std::vector<KernelUse> kernels;              ///< distinct kernels, in order of first use
  std::shared_ptr<const Recording> recording;  ///< RunOptions::record
  std::uint32_t recorded_kernel = UINT32_MAX;  ///< index into `kernels`
  double energy_j = 0;
  double ci95_percent = 0;
  std::uint64_t events = 0;  ///< both passes
};

/// One machine per process (SystemC), except with `cost`. Throws what simulate_kernel throws, with the task's
/// name.
RunResult run_machine(const models::TaskGraph& graph, const MachineSpec& spec, const RunOptions& options);

}  // namespace tessera::sim
