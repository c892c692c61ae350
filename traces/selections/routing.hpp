#pragma once
// Recorded routing of tokens to experts. Of a layer, ranges of tokens rise.

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/operators/expert_load.hpp"
#include "traces/selections/choice.hpp"

namespace tessera::traces {

/// How many tokens took each expert, by layer. Throws std::invalid_argument, also if there is no record.
struct RoutingTrace {
  ChoiceHeader header;
  models::ExpertCounts layers;
};
RoutingTrace read_routing_trace(std::unique_ptr<ByteSource> in, const std::string& name);

/// Gives `each` a layer's records. `choices`: topk experts for each token.
template <class Each>
void records_of(int layer, std::int64_t topk, const std::vector<std::int32_t>& choices, Each each) {
  const std::int64_t tokens = static_cast<std::int64_t>(choices.size()) / topk;
  const auto of = [&](std::int64_t token) { return choices.begin() + token * topk; };
  ChoiceRecord r{.layer = layer};
  for (; r.first < tokens; r.first = r.end) {
    r.end = r.first + 1;
    while (r.end < tokens && std::equal(of(r.first), of(r.first + 1), of(r.end))) ++r.end;
    r.items.assign(of(r.first), of(r.first + 1));
    each(r);
  }
}

struct RoutingSummary {
  struct Layer {
    std::int64_t tokens = 0;
    Spread spread;  ///< over experts
  };
  std::map<int, Layer> layers;
};
RoutingSummary summarise_experts(ChoiceReader& reader);

}  // namespace tessera::traces
