#pragma once
// Expert parallelism in numbers: which node holds which experts, and how many rows go where.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "models/operators/expert_load.hpp"

namespace tessera::models {

/// Experts [first, last).
struct ExpertRange {
  std::int64_t first = 0, last = 0;
  std::int64_t size() const { return last - first; }
};
/// Consecutive experts, as equal in number as can be.
ExpertRange experts_of(std::int64_t experts, std::size_t nodes, std::size_t node);

/// Of `tokens` rows, how many have at least one of their experts among `range`. Only the experts' loads are
/// known. At least as many as the fullest of them has, and as needed if every row took as many of them as it
/// can; at most every row, and every choice of them one row. In between: balanced routing spreads a row's
/// choices as widely as can be; of the others a row's topk draws without replacement miss the range with its
/// share s of the load by the product over i < topk of (E (1 - s) - i) / (E - i).
std::int64_t rows_reaching(const LoadDistribution& distribution, const Routing& routing,
                           const std::vector<std::int32_t>& loads, const ExpertRange& range);

/// What nodes with rows[i] hidden rows each exchange. A row is sent once to every node that holds one of its
/// experts, however many.
struct ExpertTraffic {
  std::vector<std::vector<std::int64_t>> rows;  ///< [i][n]: of node i's rows, those with an expert on node n
  std::vector<ExpertLoads> loads;               ///< of the experts on node n; null: it holds none

  std::int64_t received(std::size_t n) const;  ///< rows that node n's experts work on, its own included
  std::int64_t parts(std::size_t i) const;     ///< results of node i's rows, one from every node they reach
};
/// Each node's rows draw by themselves; under a power law all like the same experts.
ExpertTraffic expert_traffic(const LoadDistribution& distribution, std::int64_t experts, std::int64_t topk,
                             const std::vector<std::int64_t>& rows);

}  // namespace tessera::models
