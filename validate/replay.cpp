#include "validate/replay.hpp"

#include <algorithm>
#include <numeric>

namespace tessera::validate {

std::vector<std::uint32_t> warm_after_replay(const models::Operator& op, const Conditions& conditions,
                                             std::int64_t l2_bytes) {
  const std::vector<models::Operand> operands = models::operands_of(op);
  std::int64_t run = 0;  // the bytes that one run touches
  for (const models::Operand& o : operands) run += o.over < 0 ? o.bytes : 0;
  run += std::visit(
      [](const auto& o) -> std::int64_t {
        if constexpr (requires { o.between_bytes(); })
          return o.between_bytes();
        else
          return 0;
      },
      op);
  std::vector<std::uint32_t> warm;
  for (std::uint32_t i = 0; i < operands.size(); ++i) {
    // Between two uses of one copy of the weights lie the runs with all the others; they share the rest.
    const bool in_turn = operands[i].role == "weights";
    const std::int64_t others =
        in_turn ? std::max(conditions.weights_in_turn - operands[i].bytes, std::int64_t{0}) : 0;
    if (run + others <= l2_bytes) warm.push_back(i);
  }
  return warm;
}

std::uint32_t launches_in_replay(const Measurement& row, std::int64_t l2_bytes) {
  if (row.conditions.calls_in_replay > 1) return row.conditions.calls_in_replay;
  std::int64_t own = 0;
  for (const models::Operand& o : models::operands_of(row.op)) {
    if (o.role == "weights") own += o.bytes;
  }
  const std::int64_t in_turn = row.conditions.weights_in_turn;
  if (own == 0 || in_turn <= own) return 1;
  return static_cast<std::uint32_t>(std::min(in_turn / own, (l2_bytes + own - 1) / own));
}

double replayed_us(const Measurement& row, double latency_us, const GpuSpec& gpu) {
  const Conditions& c = row.conditions;
  if (!c.graph || c.replays_timed == 0) return latency_us;
  const double calls = launches_in_replay(row, gpu.l2.bytes);
  const double first = gpu.launch.host_graph_us + gpu.launch.host_launch_us;
  return std::max(latency_us, gpu.launch.host_graph_us / calls) + first / (calls * c.replays_timed);
}

sim::KernelOptions options_of(const Measurement& row, const GpuSpec& gpu) {
  sim::KernelOptions options;
  options.graph = row.conditions.graph;
  options.random_data = row.conditions.random_data;
  options.replayed = !row.conditions.explicit_l2 || row.conditions.warm;
  const std::uint32_t launches = launches_in_replay(row, gpu.l2.bytes);
  options.launches_before = launches * row.conditions.replays_before;
  options.launches_counted = launches * row.conditions.replays_timed;
  if (!row.conditions.explicit_l2) {
    // Replays find again what is clearly less than the L2 holds.
    options.warm_operands =
        warm_after_replay(row.op, row.conditions,
                          static_cast<std::int64_t>(gpu.l2.reused_share * static_cast<double>(gpu.l2.bytes)));
  } else if (row.conditions.warm) {
    options.warm_operands.resize(models::operands_of(row.op).size());
    std::iota(options.warm_operands.begin(), options.warm_operands.end(), 0U);
  }
  return options;
}

}  // namespace tessera::validate
