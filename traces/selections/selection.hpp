#pragma once
// Recorded choices of blocks (MoBA): which past blocks every token takes. A token's own block is not listed;
// tokens that no record has take none. Of a layer and head, ranges rise.

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/operators/selection.hpp"
#include "traces/selections/choice.hpp"

namespace tessera::traces {

/// The whole trace, as operators take it: by layer. Throws std::invalid_argument, also if there is no record.
struct SelectionTrace {
  ChoiceHeader header;
  models::SelectionLayers layers;
};
SelectionTrace read_selection_trace(std::unique_ptr<ByteSource> in, const std::string& name);

/// Gives `each` a layer's records: tokens in a row that take the same blocks are one.
template <class Each>
void records_of(int layer, const models::SelectionLists& lists, Each each) {
  const auto list = [&](std::int64_t head, std::int64_t row) {
    const auto at = static_cast<std::size_t>(head * lists.rows + row);
    return std::pair{lists.blocks.begin() + static_cast<std::ptrdiff_t>(lists.offsets[at]),
                     lists.blocks.begin() + static_cast<std::ptrdiff_t>(lists.offsets[at + 1])};
  };
  ChoiceRecord r{.layer = layer};
  for (r.head = 0; r.head < lists.heads; ++r.head) {
    for (r.first = 0; r.first < lists.rows; r.first = r.end) {
      const auto [first, last] = list(r.head, r.first);
      for (r.end = r.first + 1; r.end < lists.rows; ++r.end) {
        const auto [a, b] = list(r.head, r.end);
        if (!std::equal(first, last, a, b)) break;
      }
      r.items.assign(first, last);
      if (first != last) each(r);
    }
  }
}

/// What a trace holds, by layer; read once, not kept.
struct SelectionSummary {
  struct Layer {
    std::int64_t records = 0, pairs = 0;  ///< (token and head, block)
    /// Over past blocks and heads; a block's chance grows with the tokens after it, so a block's count is
    /// taken over these.
    Spread spread;
  };
  std::map<int, Layer> layers;
};
SelectionSummary summarise_blocks(ChoiceReader& reader);

}  // namespace tessera::traces
