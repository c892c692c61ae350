#pragma once
// Recorded routing of tokens to experts: JSON lines. docs/traces/selections.md has the format.
//
//   {"routing_trace": 1, "experts": 64, "topk": 6}
//   {"layer": 1, "tokens": [0, 1], "experts": [3, 17, 21, 40, 44, 63]}

#include <iosfwd>
#include <map>
#include <string>
#include <vector>

#include "models/operators/expert_load.hpp"
#include "traces/selections/line.hpp"

namespace tessera::traces {

struct RoutingHeader {
  std::int64_t experts = 0, topk = 0;
};
struct RoutingRecord {
  int layer = 0;
  std::int64_t first = 0, end = 0;  ///< tokens, each of which takes all of these
  std::vector<std::int32_t> experts;
};

/// One record at a time. Throws std::invalid_argument, "NAME:LINE: message", for whatever is wrong.
class RoutingReader {
 public:
  RoutingReader(std::istream& in, const std::string& name);
  const RoutingHeader& header() const { return header_; }
  bool next(RoutingRecord& record);

 private:
  JsonLines lines_;
  RoutingHeader header_;
  std::map<int, std::int64_t> ends_;  // of a layer
};

/// How many tokens took each expert, by layer. Throws if there is no record.
struct RoutingTrace {
  RoutingHeader header;
  models::ExpertCounts layers;
};
RoutingTrace read_routing_trace(std::istream& in, const std::string& name);

void write_header(std::ostream& out, const RoutingHeader& header);
/// `choices`: topk experts for each token.
void write_layer(std::ostream& out, int layer, std::int64_t topk, const std::vector<std::int32_t>& choices);

struct RoutingSummary {
  struct Layer {
    std::int64_t tokens = 0;
    Spread spread;  ///< over experts
  };
  RoutingHeader header;
  std::map<int, Layer> layers;
};
RoutingSummary summarise(RoutingReader& reader);

}  // namespace tessera::traces
