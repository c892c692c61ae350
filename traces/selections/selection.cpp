#include "traces/selections/selection.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>
#include <stdexcept>

namespace tessera::traces {

namespace {

constexpr std::int64_t kMost = std::int64_t{1} << 31U, kMostLayers = 100'000, kMostHeads = 1'000'000;
constexpr std::int64_t kMostCounts = std::int64_t{1} << 26U;  // of a layer's heads and blocks: 512 MiB
constexpr std::int64_t kMostLists = std::int64_t{1} << 32U;   // of a layer's heads and tokens: 32 GiB

std::size_t z(std::int64_t n) { return static_cast<std::size_t>(n); }

}  // namespace

SelectionReader::SelectionReader(std::istream& in, const std::string& name) : lines_{in, name} {
  if (!lines_.next()) lines_.complain("the trace is empty; expected a header with \"selection_trace\": 1");
  lines_.require_keys({"selection_trace", "tokens", "heads", "block"});
  lines_.integer("selection_trace", 1, 1);
  header_ = {.tokens = lines_.integer("tokens", 1, kMost - 1),
             .heads = lines_.integer("heads", 1, kMostHeads),
             .block = lines_.integer("block", 1, kMost - 1)};
  const std::int64_t blocks = (header_.tokens + header_.block - 1) / header_.block;
  if (header_.heads * blocks > kMostCounts)
    lines_.complain(fmt::format("{} heads with {} blocks each: expected at most {} of both together",
                                header_.heads, blocks, kMostCounts));
}

bool SelectionReader::next(SelectionRecord& r) {
  if (!lines_.next()) return false;
  lines_.require_keys({"layer", "head", "tokens", "blocks"});
  r.layer = static_cast<int>(lines_.integer("layer", 0, kMostLayers));
  r.head = lines_.integer("head", 0, header_.heads - 1);
  std::tie(r.first, r.end) = lines_.range("tokens", header_.tokens);
  std::int64_t& end = ends_[{r.layer, r.head}];
  if (r.first < end)
    lines_.complain(fmt::format("tokens: layer {} head {} is already told up to token {}, not from {} on",
                                r.layer, r.head, end, r.first));
  end = r.end;
  lines_.list("blocks", (header_.tokens + header_.block - 1) / header_.block, r.blocks);
  const std::int64_t own = r.first / header_.block;
  for (const std::int32_t b : r.blocks) {
    if (b >= own)
      lines_.complain(
          fmt::format("blocks: token {} lies in block {}; {} is no past block of it", r.first, own, b));
  }
  return true;
}

SelectionTrace read_selection_trace(std::istream& in, const std::string& name) {
  SelectionReader reader{in, name};
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
  for (SelectionRecord r; reader.next(r);) {
    auto& heads = runs[r.layer];
    heads.resize(z(trace.header.heads));
    heads[z(r.head)].push_back({r.first, r.end, r.blocks});
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

void write_header(std::ostream& out, const SelectionHeader& h) {
  out << fmt::format(R"({{"selection_trace": 1, "tokens": {}, "heads": {}, "block": {}}})", h.tokens, h.heads,
                     h.block)
      << '\n';
}

void write_layer(std::ostream& out, int layer, const models::SelectionLists& lists) {
  const auto list = [&](std::int64_t head, std::int64_t row) {
    const std::size_t at = z(head * lists.rows + row);
    return std::pair{lists.blocks.begin() + static_cast<std::ptrdiff_t>(lists.offsets[at]),
                     lists.blocks.begin() + static_cast<std::ptrdiff_t>(lists.offsets[at + 1])};
  };
  for (std::int64_t head = 0; head < lists.heads; ++head) {
    for (std::int64_t row = 0; row < lists.rows;) {
      const auto [first, last] = list(head, row);
      std::int64_t end = row + 1;
      for (; end < lists.rows; ++end) {
        const auto [a, b] = list(head, end);
        if (!std::equal(first, last, a, b)) break;
      }
      if (first != last)
        out << fmt::format(R"({{"layer": {}, "head": {}, "tokens": [{}, {}], "blocks": [{}]}})", layer, head,
                           row, end, fmt::join(first, last, ", "))
            << '\n';
      row = end;
    }
  }
}

SelectionSummary summarise(SelectionReader& reader) {
  SelectionSummary summary{.header = reader.header(), .layers = {}};
  const SelectionHeader& h = summary.header;
  const std::int64_t past = h.tokens <= h.block ? 0 : (h.tokens - 1) / h.block;
  std::map<int, std::vector<std::int64_t>> counts;
  for (SelectionRecord r; reader.next(r);) {
    SelectionSummary::Layer& layer = summary.layers[r.layer];
    ++layer.records;
    auto& of_layer = counts[r.layer];
    of_layer.resize(z(h.heads * past));
    for (const std::int32_t b : r.blocks) of_layer[z(r.head * past + b)] += r.end - r.first;
    layer.pairs += (r.end - r.first) * static_cast<std::int64_t>(r.blocks.size());
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
