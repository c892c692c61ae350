#include "traces/selections/routing.hpp"

#include <fmt/format.h>

#include <stdexcept>

namespace tessera::traces {

namespace {
/// Calls each(layer, its counts, record).
template <class Each>
void count(ChoiceReader& reader, models::ExpertCounts& counts, Each each) {
  for (ChoiceRecord r; reader.next(r);) {
    const auto layer = static_cast<int>(r.layer);
    auto& of_layer = counts[layer];
    of_layer.resize(static_cast<std::size_t>(reader.header().experts));
    for (const std::int32_t e : r.items) of_layer[static_cast<std::size_t>(e)] += r.end - r.first;
    each(layer, r);
  }
}
}  // namespace

RoutingTrace read_routing_trace(std::unique_ptr<ByteSource> in, const std::string& name) {
  ChoiceReader reader{std::move(in), name, ChoiceKind::experts};
  RoutingTrace trace{.header = reader.header(), .layers = {}};
  count(reader, trace.layers, [](int, const ChoiceRecord&) {});
  if (trace.layers.empty()) throw std::invalid_argument{fmt::format("{}: a header, but no record", name)};
  return trace;
}

RoutingSummary summarise_experts(ChoiceReader& reader) {
  RoutingSummary summary;
  models::ExpertCounts counts;
  count(reader, counts,
        [&](int layer, const ChoiceRecord& r) { summary.layers[layer].tokens += r.end - r.first; });
  for (auto& [layer, of_layer] : counts) summary.layers[layer].spread = spread_of(std::move(of_layer));
  return summary;
}

}  // namespace tessera::traces
