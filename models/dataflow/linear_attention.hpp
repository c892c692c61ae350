#pragma once
// Kimi delta attention (KDA) of a layer, from the residual stream to the branch that is added to it: on the
// node that holds the rows, and over AttnNodes.
//
// A recurrence needs every token, in order, but its heads need nothing of each other, and what a segment of
// tokens does to the state is an affine map. So the beta^2 AttnNodes share out the heads (linear_heads.hpp)
// or the tokens (linear_segments.hpp). S plays no part.

#include <memory>
#include <vector>

#include "models/dataflow/comp_node.hpp"
#include "models/dataflow/exchange.hpp"
#include "models/dataflow/placement.hpp"

namespace tessera::models {

void add_linear_weights(GraphBuilder& g, std::uint32_t node, const KdaShape& shape, LayerWeights& weights);
/// For the largest KDA layer of the model; nothing if it has none.
LinearActivations linear_activations(GraphBuilder& g, std::uint32_t node, std::int64_t rows);

/// Of every layer; without heads where it is no KDA layer.
std::vector<KdaShape> kda_shapes(const Architecture& model);

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

/// One placement of the recurrence over AttnNodes.
class LinearPlacement {
 public:
  virtual ~LinearPlacement() = default;
  // As of DenseOverNodes.
  virtual void prefill(const KdaShape& shape, const std::vector<TaskId>& ready) = 0;
  virtual TaskId finish(const KdaShape& shape, std::uint32_t i) = 0;
  virtual TaskId decode(const KdaShape& shape, std::uint32_t i, std::int64_t token, TaskId after) = 0;
};

/// The placement that Workload::recurrence names.
class LinearOverNodes {
 public:
  /// Allocates on the AttnNodes.
  LinearOverNodes(GraphBuilder& g, const Placement& placement, const std::vector<CompNode>& comp);
  void prefill(const KdaShape& shape, const std::vector<TaskId>& ready) { placed_->prefill(shape, ready); }
  TaskId finish(const KdaShape& shape, std::uint32_t i) { return placed_->finish(shape, i); }
  TaskId decode(const KdaShape& shape, std::uint32_t i, std::int64_t token, TaskId after) {
    return placed_->decode(shape, i, token, after);
  }

 private:
  std::unique_ptr<LinearPlacement> placed_;
};

}  // namespace tessera::models
