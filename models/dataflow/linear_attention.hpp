#pragma once
// Kimi delta attention (KDA) of a layer, from the residual stream to the branch that is added to it: on the
// node that holds the rows, and over AttnNodes.
//
// A recurrence needs every token, in order, but its heads need nothing of each other. So the beta^2 AttnNodes
// share out the heads: each gets all tokens' rows of its heads from every CompNode, keeps the heads'
// convolution inputs and states, and returns the heads' results to the rows' owners. Nothing is merged, and S
// plays no part. (Segments of tokens whose state maps are combined by a scan: models/reference.)

#include <vector>

#include "models/dataflow/comp_node.hpp"
#include "models/dataflow/exchange.hpp"
#include "models/dataflow/placement.hpp"

namespace tessera::models {

void add_linear_weights(GraphBuilder& g, std::uint32_t node, const KdaShape& shape, LayerWeights& weights);
/// For the largest KDA layer of the model; nothing if it has none.
LinearActivations linear_activations(GraphBuilder& g, std::uint32_t node, std::int64_t rows);

/// Where some heads' recurrence runs.
struct LinearHeads {
  BufferId mixed = 0;               ///< q, k, v after the convolution
  std::vector<BufferId> weights;    ///< per layer: the convolution's, and the decay's constants
  std::vector<BufferId> state;      ///< per layer, fp32
  std::vector<BufferId> conv_past;  ///< per layer: the convolution's last inputs
};

class LinearOnOneNode {
 public:
  /// Allocates the states.
  LinearOnOneNode(GraphBuilder& g, const CompNode& node);
  /// The current layer's attention of `rows` new rows.
  TaskId run(const KdaShape& shape, std::int64_t rows, TaskId after);

 private:
  GraphBuilder& g_;
  const CompNode& n_;
  LinearHeads heads_;
};

class LinearOverNodes {
 public:
  /// Allocates on the AttnNodes.
  LinearOverNodes(GraphBuilder& g, const Placement& placement, const std::vector<CompNode>& comp);

  // As of DenseOverNodes.
  void prefill(const KdaShape& shape, const std::vector<TaskId>& ready);
  TaskId finish(const KdaShape& shape, std::uint32_t i);
  TaskId decode(const KdaShape& shape, std::uint32_t i, std::int64_t token, TaskId after);

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
