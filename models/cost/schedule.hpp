#pragma once
// When each task of a graph runs, without packets: kernels one after another on their node, messages as fluid
// flows that share links. What sim/system simulates packet by packet, in closed form between events.
//
// A node serves its messages in turn, a packet of each, and a packet that finds its switch's buffer full
// holds up those behind it: so all messages of a node advance at one rate r_n, the largest with
//
//   k_n r_n <= W_up          k_n messages of node n, its port
//   m_nl r_n <= equal share of link l
//                            m_nl of them over l, which serves its senders in turn; what one of them cannot
//                            take, the others have (max-min fairness)
//   W = min(line rate, buffer / (2 hop + forwarding + packet / line rate))
//                            credits come back a round trip later
//   arrival = last byte out + sum over switches (hop + forwarding + last packet / W) + hop + endpoint

#include <cstdint>
#include <string>
#include <vector>

#include "models/dataflow/task_graph.hpp"
#include "sim/core/hardware.hpp"
#include "sim/core/time.hpp"

namespace tessera::cost {

/// A stretch of time in which a link is used by `share` of what it could move.
struct LinkSpan {
  Time start, end;
  double share = 0;
};

struct LinkLoad {
  std::string name;        ///< "comp0 -> switch0", as sim::LinkUse
  std::int64_t bytes = 0;  ///< payload
  Time busy;               ///< what its wire bytes take
  std::vector<LinkSpan> spans;
};

struct Schedule {
  /// Parallel to TaskGraph::tasks. Of a kernel, its time on its GPU; of a message, from the order to send it
  /// to its last byte's arrival.
  std::vector<Time> start, end;
  std::vector<LinkLoad> links;
  std::vector<std::int64_t> bytes_out, bytes_in;  ///< payload, parallel to TaskGraph::nodes
  std::uint64_t events = 0;
};

/// `durations`: how long each Compute task occupies its GPU. `spans`: whether links keep their spans. Throws
/// std::logic_error naming the task if the graph cannot be run to its end.
Schedule schedule_tasks(const models::TaskGraph& graph, const FabricSpec& fabric,
                        const std::vector<Time>& durations, bool spans);

}  // namespace tessera::cost
