#pragma once
// What a run's timings say: latency per phase, the critical path by stage, exposed communication, the
// bottleneck. Pure functions of the task graph and the result; all spans in microseconds.

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
    kernel,    ///< `task` computes
    host,      ///< the host is at work before `task`, a step's first kernel
    launch,    ///< `task` is a kernel that is being launched or waits for its turn
    transfer,  ///< `task` is a message: from its data being ready to its last byte's arrival
  };
  Kind kind = Kind::kernel;
  models::TaskId task = 0;
  Time begin, end;
};

/// The chain of tasks that determined when `last` ended, back to the time `from`, earliest first. Walks back
/// over whichever finished latest: a task of `after`, or the node's previous kernel (kernels of a node run in
/// order). The part of a kernel's time that is not execution (KernelResult::execution of ::latency) is its
/// launch. The spans are contiguous and sum to end(last) - from.
std::vector<PathSpan> critical_path(const models::TaskGraph& graph, const sim::RunResult& run,
                                    models::TaskId last, Time from);

struct StageTimes {
  double critical_us = 0;  ///< on the critical path: kernels and messages, not launches
  double elapsed_us = 0;   ///< time during which at least one node was in this stage (stages overlap, so
                           ///< these may sum to more than the phase)
  std::uint64_t tasks = 0;
};

/// A share of the critical path held by one resource: a kernel's bottleneck ("tensor cores", "HBM bandwidth",
/// ...); "launch"; "interconnect latency", what a message of no bytes would take on an idle network; and the
/// rest of messages, serialisation and queueing: "interconnect bandwidth", or "interconnect message rate"
/// where the sender's cost per message exceeds the bytes' time on the wire.
struct LimitShare {
  std::string name;
  double share = 0;
};

/// Shares of peak while a phase lasts, mean over the nodes of a kind.
struct PhaseUse {
  double busy = 0, tensor = 0, mufu = 0, hbm = 0, l2 = 0;
};

/// A phase: the prefill, or all decode steps together.
struct Phase {
  double latency_us = 0;
  int steps = 0;  ///< 1 for the prefill, the number of decode steps otherwise
  std::array<StageTimes, models::kStages> stages{};
  double host_us = 0;    ///< on the critical path, the host at work before a step
  double launch_us = 0;  ///< on the critical path, waiting for kernel launches
  /// On the critical path, in messages: the communication that no computation hides.
  double exposed_communication_us = 0;
  /// At least one message in flight and no kernel running on any GPU: what is exposed of the whole machine,
  /// not of its slowest chain.
  double network_only_us = 0;
  std::vector<LimitShare> limits;  ///< of its critical path, largest first
  PhaseUse comp, attn;
  bool present() const { return steps > 0; }
};

struct LayerTimes {
  int layer = 0;          ///< -1: before the first and after the last layer
  double prefill_us = 0;  ///< on the critical path, launches included
  double decode_us = 0;   ///< the same, mean per decode step
  std::array<double, models::kStages> prefill_stages{}, decode_stages{};  ///< without launches
  std::vector<LimitShare> prefill_limits, decode_limits;                  ///< as Phase::limits
};

struct Analysis {
  Phase prefill, decode;
  std::vector<LayerTimes> layers;
  std::vector<LimitShare> limits;  ///< of prefill and decode together, largest first
  std::string bottleneck;          ///< limits.front().name
};

/// `fabric` tells a message's latency from its bytes' time.
Analysis analyse(const models::TaskGraph& graph, const sim::RunResult& run, const FabricSpec& fabric);

}  // namespace tessera::cli
