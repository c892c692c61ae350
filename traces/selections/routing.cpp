#include "traces/selections/routing.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>
#include <stdexcept>

namespace tessera::traces {

namespace {
constexpr std::int64_t kMostExperts = 1'000'000, kMostLayers = 100'000, kMostTokens = std::int64_t{1} << 40U;
std::size_t z(std::int64_t n) { return static_cast<std::size_t>(n); }
}  // namespace

RoutingReader::RoutingReader(std::istream& in, const std::string& name) : lines_{in, name} {
  if (!lines_.next()) lines_.complain("the trace is empty; expected a header with \"routing_trace\": 1");
  lines_.require_keys({"routing_trace", "experts", "topk"});
  lines_.integer("routing_trace", 1, 1);
  header_.experts = lines_.integer("experts", 1, kMostExperts);
  header_.topk = lines_.integer("topk", 1, header_.experts);
}

bool RoutingReader::next(RoutingRecord& r) {
  if (!lines_.next()) return false;
  lines_.require_keys({"layer", "tokens", "experts"});
  r.layer = static_cast<int>(lines_.integer("layer", 0, kMostLayers));
  std::tie(r.first, r.end) = lines_.range("tokens", kMostTokens);
  std::int64_t& end = ends_[r.layer];
  if (r.first < end)
    lines_.complain(fmt::format("tokens: layer {} is already told up to token {}, not from {} on", r.layer,
                                end, r.first));
  end = r.end;
  lines_.list("experts", header_.experts, r.experts);
  if (static_cast<std::int64_t>(r.experts.size()) != header_.topk)
    lines_.complain(
        fmt::format("experts: expected {}, as the header has it, not {}", header_.topk, r.experts.size()));
  return true;
}

RoutingTrace read_routing_trace(std::istream& in, const std::string& name) {
  RoutingReader reader{in, name};
  RoutingTrace trace{.header = reader.header(), .layers = {}};
  for (RoutingRecord r; reader.next(r);) {
    auto& counts = trace.layers[r.layer];
    counts.resize(z(trace.header.experts));
    for (const std::int32_t e : r.experts) counts[z(e)] += r.end - r.first;
  }
  if (trace.layers.empty()) throw std::invalid_argument{fmt::format("{}: a header, but no record", name)};
  return trace;
}

void write_header(std::ostream& out, const RoutingHeader& h) {
  out << fmt::format(R"({{"routing_trace": 1, "experts": {}, "topk": {}}})", h.experts, h.topk) << '\n';
}

void write_layer(std::ostream& out, int layer, std::int64_t topk, const std::vector<std::int32_t>& choices) {
  const std::int64_t tokens = static_cast<std::int64_t>(choices.size()) / topk;
  const auto of = [&](std::int64_t token) { return choices.begin() + token * topk; };
  for (std::int64_t token = 0; token < tokens;) {
    std::int64_t end = token + 1;
    while (end < tokens && std::equal(of(token), of(token + 1), of(end))) ++end;
    out << fmt::format(R"({{"layer": {}, "tokens": [{}, {}], "experts": [{}]}})", layer, token, end,
                       fmt::join(of(token), of(token + 1), ", "))
        << '\n';
    token = end;
  }
}

RoutingSummary summarise(RoutingReader& reader) {
  RoutingSummary summary{.header = reader.header(), .layers = {}};
  std::map<int, std::vector<std::int64_t>> counts;
  for (RoutingRecord r; reader.next(r);) {
    summary.layers[r.layer].tokens += r.end - r.first;
    auto& of_layer = counts[r.layer];
    of_layer.resize(z(summary.header.experts));
    for (const std::int32_t e : r.experts) of_layer[z(e)] += r.end - r.first;
  }
  for (auto& [layer, of_layer] : counts) summary.layers[layer].spread = spread_of(std::move(of_layer));
  return summary;
}

}  // namespace tessera::traces
