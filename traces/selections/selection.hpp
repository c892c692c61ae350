#pragma once
// Recorded choices of blocks (MoBA): JSON lines. docs/traces/selections.md has the format.
//
//   {"selection_trace": 1, "tokens": 8192, "heads": 8, "block": 512}
//   {"layer": 0, "head": 3, "tokens": [1024, 1030], "blocks": [0, 1]}
//
// A line says which past blocks every token of a range takes; a token's own block is not listed. Tokens that
// no line has take none. Of a layer and head, ranges rise.

#include <iosfwd>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/operators/selection.hpp"
#include "traces/selections/line.hpp"

namespace tessera::traces {

struct SelectionHeader {
  std::int64_t tokens = 0, heads = 0, block = 0;
};
struct SelectionRecord {
  int layer = 0;
  std::int64_t head = 0;
  std::int64_t first = 0, end = 0;  ///< tokens
  std::vector<std::int32_t> blocks;
};

/// One record at a time. Throws std::invalid_argument, "NAME:LINE: message", for whatever is wrong.
class SelectionReader {
 public:
  /// Reads the header. `in` must outlive the reader.
  SelectionReader(std::istream& in, const std::string& name);
  const SelectionHeader& header() const { return header_; }
  /// The next record, into storage that is used again; false at the end.
  bool next(SelectionRecord& record);

 private:
  JsonLines lines_;
  SelectionHeader header_;
  std::map<std::pair<int, std::int64_t>, std::int64_t> ends_;  // of (layer, head)
};

/// The whole trace, as operators take it: by layer. Throws if there is no record.
struct SelectionTrace {
  SelectionHeader header;
  models::SelectionLayers layers;
};
SelectionTrace read_selection_trace(std::istream& in, const std::string& name);

/// Writes a header, and then layers; tokens in a row that take the same blocks are one line.
void write_header(std::ostream& out, const SelectionHeader& header);
void write_layer(std::ostream& out, int layer, const models::SelectionLists& lists);

/// What a trace holds, by layer; read once, not kept.
struct SelectionSummary {
  struct Layer {
    std::int64_t records = 0, pairs = 0;  ///< (token and head, block)
    /// Over past blocks and heads; a block's chance grows with the tokens after it, so a block's count is
    /// taken over these.
    Spread spread;
  };
  SelectionHeader header;
  std::map<int, Layer> layers;
};
SelectionSummary summarise(SelectionReader& reader);

}  // namespace tessera::traces
