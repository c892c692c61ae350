#pragma once
// A node: a host with one GPU that executes its part of the task graph. CompNodes and AttnNodes are the same
// module with different tasks.
//
// Kernels run one after another on a compute stream, in task order, each as soon as the stream is free and
// what it depends on is there. Sends start when their data is ready, beside the stream, and so overlap with
// compute. A kernel occupies its GPU for KernelResult::latency, which includes the launch gap: between
// dependent nodes of a CUDA graph that gap cannot be hidden, and a stream that waited for a message pays it
// too.

#include <cstdint>
#include <string>
#include <vector>

#include "models/dataflow/task_graph.hpp"
#include "sim/core/module.hpp"
#include "sim/fabric/messages.hpp"
#include "sim/system/machine.hpp"

namespace tessera::sim {

/// The task graph's edges as nodes need them.
struct Dependents {
  /// For each task: the tasks of its own node that wait for it, and those at its message's destination.
  std::vector<std::vector<models::TaskId>> local, remote;
};
/// Throws std::logic_error naming the tasks if a dependency crosses nodes without a Transfer to there.
Dependents dependents_of(const models::TaskGraph& graph);

/// "attention of layer 3 (prefill)": what a task is called in messages.
std::string describe(const models::TaskGraph& graph, models::TaskId task);

class Node : public EventModule<NodeEvent> {
 public:
  /// `durations`: how long each Compute task occupies the GPU. All references must outlive the node.
  Node(sc_core::sc_module_name name, std::uint32_t index, const models::TaskGraph& graph,
       const Dependents& dependents, const std::vector<Time>& durations, std::vector<TaskTiming>& timings);

  Outlet<NicEvent> to_nic;

  void describe_stuck(std::vector<std::string>& out) const override;
  std::size_t completed() const { return completed_; }
  std::size_t tasks() const { return tasks_; }
  Time compute_busy() const { return compute_busy_; }

 private:
  void handle(Time now, const NodeEvent& event) override;
  void complete(Time now, const std::vector<models::TaskId>& dependents);
  void start_send(Time now, models::TaskId task);
  void run_stream(Time now);

  const std::uint32_t index_;
  const models::TaskGraph& graph_;
  const Dependents& dependents_;
  const std::vector<Time>& durations_;
  std::vector<TaskTiming>& timings_;
  std::vector<models::TaskId> stream_;  // Compute tasks, in order
  std::size_t next_in_stream_ = 0;
  bool stream_busy_ = false;
  std::vector<std::uint32_t> waits_for_;  // per task of the graph; only this node's are used
  std::size_t tasks_ = 0, completed_ = 0;
  Time compute_busy_;
};

}  // namespace tessera::sim
