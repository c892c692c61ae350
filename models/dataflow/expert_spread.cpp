#include "models/dataflow/expert_spread.hpp"

#include <algorithm>
#include <cmath>
#include <memory>

namespace tessera::models {

ExpertRange experts_of(std::int64_t experts, std::size_t nodes, std::size_t node) {
  const auto n = static_cast<std::int64_t>(nodes), i = static_cast<std::int64_t>(node);
  return {experts * i / n, experts * (i + 1) / n};
}

std::int64_t rows_reaching(const LoadDistribution& distribution, const Routing& routing,
                           const std::vector<std::int32_t>& loads, const ExpertRange& range) {
  std::int64_t choices = 0, fullest = 0;
  for (std::int64_t e = range.first; e < range.last; ++e) {
    const std::int64_t rows = loads[static_cast<std::size_t>(e)];
    choices += rows;
    fullest = std::max(fullest, rows);
  }
  if (choices == 0) return 0;
  const std::int64_t most = std::min(routing.tokens, choices), each = std::min(routing.topk, range.size());
  const std::int64_t least = std::max(fullest, (choices + each - 1) / each);
  if (distribution.kind == LoadKind::balanced) return most;
  const auto experts = static_cast<double>(routing.experts), tokens = static_cast<double>(routing.tokens);
  const double share = static_cast<double>(choices) / (tokens * static_cast<double>(routing.topk));
  double missed = 1;
  for (std::int64_t i = 0; i < routing.topk; ++i) {
    const auto drawn = static_cast<double>(i);
    missed *= std::max(0.0, (experts * (1 - share) - drawn) / (experts - drawn));
  }
  return std::clamp<std::int64_t>(std::llround(tokens * (1 - missed)), least, most);
}

std::int64_t ExpertTraffic::received(std::size_t n) const {
  std::int64_t sum = 0;
  for (const auto& from : rows) sum += from[n];
  return sum;
}

std::int64_t ExpertTraffic::parts(std::size_t i) const {
  std::int64_t sum = 0;
  for (const std::int64_t n : rows[i]) sum += n;
  return sum;
}

ExpertTraffic expert_traffic(const LoadDistribution& distribution, std::int64_t experts, std::int64_t topk,
                             const std::vector<std::int64_t>& rows) {
  const std::size_t nodes = rows.size();
  ExpertTraffic traffic;
  traffic.rows.assign(nodes, std::vector<std::int64_t>(nodes));
  std::vector<std::int32_t> all(static_cast<std::size_t>(experts));
  for (std::size_t i = 0; i < nodes; ++i) {
    if (rows[i] == 0) continue;
    LoadDistribution own = distribution;
    if (own.kind == LoadKind::uniform) own.seed += i;
    const auto among = static_cast<std::int64_t>(nodes);
    const Routing routing{
        .tokens = rows[i], .experts = experts, .topk = topk, .nodes = experts % among == 0 ? among : 1};
    const std::vector<std::int32_t> loads = expert_loads(own, routing);
    for (std::size_t e = 0; e < all.size(); ++e) all[e] += loads[e];
    for (std::size_t n = 0; n < nodes; ++n)
      traffic.rows[i][n] = rows_reaching(own, routing, loads, experts_of(experts, nodes, n));
  }
  for (std::size_t n = 0; n < nodes; ++n) {
    const ExpertRange held = experts_of(experts, nodes, n);
    traffic.loads.push_back(held.size() > 0 ? loads_of(all, held.first, held.last) : nullptr);
  }
  return traffic;
}

}  // namespace tessera::models
