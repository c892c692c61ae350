#include "traces/operators/replay.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <stdexcept>

namespace tessera::traces {

namespace {

constexpr std::size_t kMostNames = 10;

/// When the last node ends.
double length_us(const OperatorTrace& trace, const std::vector<double>& durations) {
  std::vector<double> end(trace.nodes.size());
  double last = 0;
  for (std::size_t n = 0; n < trace.nodes.size(); ++n) {
    double start = 0;
    for (const std::uint32_t a : trace.nodes[n].after) start = std::max(start, end[a]);
    end[n] = start + trace.nodes[n].delay_us + durations[n];
    last = std::max(last, end[n]);
  }
  return last;
}

void count(Coverage& c, const TraceNode& node, double replayed_us) {
  ++c.nodes;
  c.recorded_us += node.recorded_us;
  c.replayed_us += replayed_us;
}

}  // namespace

double collective_us(const Collective& c, const FabricSpec& fabric) {
  const auto n = static_cast<double>(std::max<std::int64_t>(1, c.gpus));
  double steps = 1, bytes = c.bytes;
  switch (c.kind) {
    case CollectiveKind::all_reduce:
      steps = 2 * (n - 1);
      bytes *= 2 * (n - 1) / n;
      break;
    case CollectiveKind::all_gather:
      steps = n - 1;
      bytes *= n - 1;
      break;
    case CollectiveKind::reduce_scatter:
    case CollectiveKind::all_to_all:
      steps = n - 1;
      bytes *= (n - 1) / n;
      break;
    case CollectiveKind::broadcast:
    case CollectiveKind::send_recv:
      break;
  }
  const double step_us =
      (2 * fabric.endpoint_latency_ns + 2 * fabric.link_latency_ns + fabric.switch_latency_ns) * 1e-3 +
      fabric.message_overhead_us;
  return steps * step_us + bytes / (fabric.node_gb_per_s * 1e3);
}

OperatorReplay replay_operators(const OperatorTrace& trace, const OperatorPrice& price,
                                const FabricSpec* fabric) {
  OperatorReplay result;
  std::vector<double> recorded, replayed;
  std::map<std::string, OperatorReplay::Name> names;
  std::vector<bool> priced(trace.nodes.size());
  for (const TraceNode& node : trace.nodes) {
    std::optional<double> us;
    if (node.op) {
      try {
        us = price(*node.op);
      } catch (const std::invalid_argument&) {  // no kernel for it: as recorded
      }
      priced[recorded.size()] = us.has_value();
    } else if (node.part_of && priced[*node.part_of]) {
      us = 0;
    } else if (node.collective && node.collective->gpus > 1 && fabric != nullptr) {
      us = collective_us(*node.collective, *fabric);
    }
    recorded.push_back(node.recorded_us);
    replayed.push_back(us.value_or(node.recorded_us));
    Coverage& c = node.kind == TraceNode::Kind::host ? result.host
                  : !us                              ? result.fixed
                  : node.collective                  ? result.collectives
                                                     : result.operators;
    count(c, node, replayed.back());
    if (&c == &result.fixed) {
      OperatorReplay::Name& n = names.try_emplace(node.name).first->second;
      n.name = node.name;
      ++n.nodes;
      n.recorded_us += node.recorded_us;
    }
  }
  result.recorded_us = length_us(trace, recorded);
  result.replayed_us = length_us(trace, replayed);
  for (auto& [key, n] : names) result.largest_fixed.push_back(std::move(n));
  std::stable_sort(result.largest_fixed.begin(), result.largest_fixed.end(),
                   [](const auto& a, const auto& b) { return a.recorded_us > b.recorded_us; });
  if (result.largest_fixed.size() > kMostNames) result.largest_fixed.resize(kMostNames);
  return result;
}

}  // namespace tessera::traces
