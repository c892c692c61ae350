#include "traces/selections/selection.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace tessera::traces {

namespace {

constexpr std::int64_t kMostLists = std::int64_t{1} << 32U;  // of a layer's heads and tokens: 32 GiB

std::size_t z(std::int64_t n) { return static_cast<std::size_t>(n); }

}  // namespace

SelectionTrace read_selection_trace(std::unique_ptr<ByteSource> in, const std::string& name) {
  ChoiceReader reader{std::move(in), name, ChoiceKind::blocks};
  SelectionTrace trace{.header = reader.header(), .layers = {}};
  if (trace.header.heads * trace.header.tokens > kMostLists)
    throw std::invalid_argument{fmt::format("{}: {} heads with {} tokens each: more than fit into memory",
                                            name, trace.header.heads, trace.header.tokens)};
  // Records of a layer by head, then laid out one head after another.
  struct Run {
    std::int64_t first, end;
    std::vector<std::int32_t> blocks;
  };
  std::map<int, std::vector<std::vector<Run>>> runs;
  for (ChoiceRecord r; reader.next(r);) {
    auto& heads = runs[static_cast<int>(r.layer)];
    heads.resize(z(trace.header.heads));
    heads[z(r.head)].push_back({r.first, r.end, r.items});
  }
  if (runs.empty()) throw std::invalid_argument{fmt::format("{}: a header, but no record", name)};
  for (auto& [layer, heads] : runs) {
    models::SelectionLists lists{trace.header.heads, trace.header.tokens, {0}, {}};
    lists.offsets.reserve(z(lists.heads * lists.rows) + 1);
    for (const std::vector<Run>& head : heads) {
      std::int64_t row = 0;
      const auto skip_to = [&](std::int64_t to) {
        for (; row < to; ++row) lists.offsets.push_back(lists.blocks.size());
      };
      for (const Run& run : head) {
        skip_to(run.first);
        for (; row < run.end; ++row) {
          lists.blocks.insert(lists.blocks.end(), run.blocks.begin(), run.blocks.end());
          lists.offsets.push_back(lists.blocks.size());
        }
      }
      skip_to(lists.rows);
    }
    heads.clear();
    trace.layers.emplace(layer, std::make_shared<const models::SelectionLists>(std::move(lists)));
  }
  return trace;
}

SelectionSummary summarise_blocks(ChoiceReader& reader) {
  SelectionSummary summary;
  const ChoiceHeader& h = reader.header();
  const std::int64_t past = h.tokens <= h.block ? 0 : (h.tokens - 1) / h.block;
  std::map<int, std::vector<std::int64_t>> counts;
  for (ChoiceRecord r; reader.next(r);) {
    SelectionSummary::Layer& layer = summary.layers[static_cast<int>(r.layer)];
    ++layer.records;
    auto& of_layer = counts[static_cast<int>(r.layer)];
    of_layer.resize(z(h.heads * past));
    for (const std::int32_t b : r.items) of_layer[z(r.head * past + b)] += r.end - r.first;
    layer.pairs += (r.end - r.first) * static_cast<std::int64_t>(r.items.size());
  }
  for (auto& [layer, of_layer] : counts) {
    // Per million tokens that could have taken the block.
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(of_layer.size()); ++i)
      of_layer[z(i)] = of_layer[z(i)] * 1'000'000 / (h.tokens - (i % past + 1) * h.block);
    summary.layers[layer].spread = spread_of(std::move(of_layer));
  }
  return summary;
}

}  // namespace tessera::traces
