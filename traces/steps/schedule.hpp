#pragma once
// When the tasks of a graph run, in closed form: kernels of a node in order, messages through the ports of
// sender and receiver. What sim/system simulates packet by packet, without SystemC, so that thousands of
// graphs can be timed in one process.

#include <vector>

#include "models/dataflow/task_graph.hpp"
#include "sim/core/hardware.hpp"
#include "sim/core/time.hpp"

namespace tessera::traces {

struct Scheduled {
  Time latency;
  std::vector<Time> end;             ///< of each task
  std::vector<Time> busy;            ///< of each node's GPU
  Time attention;                    ///< of the chain that determined the latency: kernels of stage attention
  std::vector<Time> attention_busy;  ///< of each node
};

/// A message starts when its sender's port is free, occupies it for message_overhead and its bytes, headers
/// included, at node_gb_per_s, arrives at the receiver's port a path's latency later, and occupies that as
/// long, after what came before. Uplinks between switches are taken as wide enough.
Scheduled schedule(const models::TaskGraph& graph, const std::vector<Time>& duration_of_task,
                   const FabricSpec& fabric);

}  // namespace tessera::traces
