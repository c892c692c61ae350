#pragma once
// KDA by segments: AttnNode a of n = beta^2 has the prompt's tokens [T a / n, T (a + 1) / n), all heads. It
// forms its segment's map of the state, S -> P S + Q, sends it to the nodes of later segments, folds the maps
// it is sent to the state that reaches its own segment, and goes on from that (docs/operators/kda.md). The
// last node keeps the states; tokens are decoded there.

#include "models/dataflow/linear_attention.hpp"

namespace tessera::models {

class LinearBySegments final : public LinearPlacement {
 public:
  LinearBySegments(GraphBuilder& g, const Placement& placement, const std::vector<CompNode>& comp);
  void prefill(const KdaShape& shape, const std::vector<TaskId>& ready) override;
  TaskId finish(const KdaShape& shape, std::uint32_t i) override;
  TaskId decode(const KdaShape& shape, std::uint32_t i, std::int64_t token, TaskId after) override;

 private:
  struct AttnNode {
    std::int64_t first = 0, last = 0;  // tokens of the prompt
    BufferId received = 0, out = 0;
    BufferId map = 0, maps = 0;  // its own, and those it is sent
    LinearHeads heads;

    std::int64_t tokens() const { return last - first; }
  };
  std::uint32_t id(std::size_t a) const { return p_.alpha + static_cast<std::uint32_t>(a); }
  /// How many of CompNode i's new rows lie in [first, last).
  std::int64_t rows(std::uint32_t i, std::int64_t first, std::int64_t last) const;
  /// All nodes' rows to the segments, with the rows before that a segment's convolution reads.
  TasksByNode send(const KdaShape& shape, const std::vector<TaskId>& ready);

  GraphBuilder& g_;
  const Placement& p_;
  const std::vector<CompNode>& comp_;
  std::vector<AttnNode> nodes_;  // row-major
  TasksByNode returned_;         // to each CompNode, of the current layer
};

}  // namespace tessera::models
