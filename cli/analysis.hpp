#pragma once
// What a run's timings say: latency per phase, the critical path by stage, exposed communication, the bottleneck.
// Pure functions of the task graph and the result; all spans in microseconds.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "models/dataflow/task_graph.hpp"
#include "sim/system/machine.hpp"

namespace tessera::cli {

/// One piece of a critical path, [begin, end).
struct PathSpan {
  enum class Kind : std::uint8_t {
    kernel,     ///< `task` computes
    transfer,   ///< `task`'s message is on its way
    launch,     ///< `task` is a kernel whose inputs and GPU are ready, but which has not started
    port_wait,  ///< `task` is a message whose data is ready, but whose first byte has not left (overheads,
                ///< earlier messages of the same node)
  };
  Kind kind = Kind::kernel;
  models::TaskId task = 0;
  Time begin, end;
};

/// The chain of tasks that determined when `last` ended, back to the time `from`, earliest first. Walks back over
/// whichever finished latest: a task of `after`, or the node's previous kernel (kernels of a node run in order).
/// The spans are contiguous and sum to end(last) - from.
std::vector<PathSpan> critical_path(const models::TaskGraph& graph, const sim::RunResult& run, models::TaskId last, Time from);

struct StageTimes {
  double critical_us = 0;  ///< on the critical path: kernels, messages and their port waits, not launches
  double elapsed_us = 0;   ///< time during which at least one node was in this stage (stages overlap, so
                           ///< these may sum to more than the phase)
  std::uint64_t tasks = 0;
};

/// A phase: the prefill, or all decode steps together.
struct Phase {
  double latency_us = 0;
  int steps = 0;           ///< 1 for the prefill, the number of decode steps otherwise
  std::array<StageTimes, models::kStages> stages{};
  double launch_us = 0;    ///< on the critical path, waiting for kernel launches
  /// On the critical path, in messages and their port waits: the communication that no computation hides, as
  /// it would vanish with an ideal network and an unchanged critical path.
  double exposed_communication_us = 0;
  /// At least one message in flight and no kernel running on any GPU: a lower, schedule-free view of the same.
  double network_only_us = 0;
  bool present() const { return steps > 0; }
};

struct LayerTimes {
  int layer = 0;           ///< -1: before the first and after the last layer
  double prefill_us = 0;   ///< on the critical path, launches included
  double decode_us = 0;    ///< the same, mean per decode step
  std::array<double, models::kStages> prefill_stages{}, decode_stages{};  ///< without launches
};

/// A share of the critical path held by one resource: "tensor cores", "HBM bandwidth", "launch",
/// "interconnect bandwidth", "interconnect latency", ...
struct LimitShare {
  std::string name;
  double share = 0;
};

struct Analysis {
  Phase prefill, decode;
  std::vector<LayerTimes> layers;
  std::vector<LimitShare> limits;  ///< of prefill and decode together, largest first
  std::string bottleneck;          ///< limits.front().name
};

/// `fabric` tells a message's bandwidth-bound time from its latency.
Analysis analyse(const models::TaskGraph& graph, const sim::RunResult& run, const FabricSpec& fabric);

}  // namespace tessera::cli
