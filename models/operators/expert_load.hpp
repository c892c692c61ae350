#pragma once
// How many rows each expert of a layer gets: balanced, drawn from a distribution, or counted in a recorded
// routing. Pure: equal arguments, equal loads.

#include <cstdint>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

namespace tessera::models {

/// Rows of each expert on a node, in the experts' order.
using ExpertLoads = std::shared_ptr<const std::vector<std::int32_t>>;

enum class LoadKind {
  balanced,   ///< token t takes experts t + i ceil(E / k): loads differ by one at most
  uniform,    ///< every token draws its experts at random, all alike
  power_law,  ///< loads in proportion to a variable of density x^-exponent
  recorded,   ///< loads in proportion to how many tokens of a recorded routing took each expert
};
/// Tokens that took each expert, by layer from 0.
using ExpertCounts = std::map<int, std::vector<std::int64_t>>;
struct LoadDistribution {
  LoadKind kind = LoadKind::balanced;
  double exponent = 0;  ///< of power_law
  std::uint64_t seed = 1;
  std::shared_ptr<const ExpertCounts> counts;  ///< of recorded
  int layer = 0;                               ///< of those; of only one, that one
};

/// "balanced", "uniform", "power_law_1.2". std::invalid_argument for anything else.
LoadDistribution parse_load(std::string_view text);

struct Routing {
  std::int64_t tokens = 0, experts = 0, topk = 0;
  std::int64_t nodes = 1;  ///< that the experts are spread over, experts / nodes each
};

/// Loads of all experts; they sum to tokens x topk, none above tokens. std::invalid_argument for an
/// impossible routing.
///
/// balanced and power_law are those of aiconfigurator's collector (ai-dynamo/aiconfigurator,
/// collector/helper.py: balanced_logits, power_law_logits_v3), whose node 0 is the one with the most rows
/// under power_law. Density x^-a on [1, 0.8 tokens], or [0.01, 2] if there are fewer rows than experts. Where
/// the collector draws each of the E variables over all of [0, 1), here each is drawn from a stratum of its
/// own, 1 / E wide, and then they are shuffled: it measures the mean of five draws, which one such draw is
/// closer to than one of its own. Recorded loads are rounded so that as little as may be is moved.
std::vector<std::int32_t> expert_loads(const LoadDistribution& distribution, const Routing& routing);

/// The rows of each expert in a recorded routing: one expert index for each of a token's choices.
/// std::invalid_argument names an index that is no expert.
std::vector<std::int32_t> count_rows(const std::vector<std::int32_t>& choices, std::int64_t experts);

/// The loads of experts [first, last): what a node that holds those works on.
ExpertLoads loads_of(const std::vector<std::int32_t>& loads, std::int64_t first, std::int64_t last);

}  // namespace tessera::models
