#pragma once
// KDA by heads: every AttnNode gets all tokens' rows of its heads from every CompNode, keeps the heads'
// convolution inputs and states, and returns the heads' results to the rows' owners. Nothing is merged.

#include "models/dataflow/linear_attention.hpp"

namespace tessera::models {

class LinearByHeads final : public LinearPlacement {
 public:
  LinearByHeads(GraphBuilder& g, const Placement& placement, const std::vector<CompNode>& comp);
  void prefill(const KdaShape& shape, const std::vector<TaskId>& ready) override;
  TaskId finish(const KdaShape& shape, std::uint32_t i) override;
  TaskId decode(const KdaShape& shape, std::uint32_t i, std::int64_t token, TaskId after) override;

 private:
  struct AttnNode {
    BufferId received = 0, out = 0;  // messages put rows where they belong
    LinearHeads heads;
  };
  /// The heads of AttnNode `a`, none of them if there are fewer heads than nodes.
  KdaShape part(const KdaShape& shape, std::uint32_t a) const;
  std::uint32_t id(std::uint32_t a) const { return p_.alpha + a; }
  /// Some rows' part for each AttnNode, after `ready`.
  void send(const KdaShape& shape, std::uint32_t i, std::int64_t rows, TaskId ready, TasksByNode& received);
  TaskId recur(const KdaShape& part, std::uint32_t a, std::vector<TaskId> after);

  GraphBuilder& g_;
  const Placement& p_;
  const std::vector<CompNode>& comp_;
  std::vector<AttnNode> nodes_;  // row-major
  TasksByNode returned_;         // to each CompNode, of the current layer
};

}  // namespace tessera::models
