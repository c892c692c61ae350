#pragma once
// The dense feed-forward network of a layer.

#include "models/dataflow/comp_node.hpp"

namespace tessera::models {

void add_mlp_weights(GraphBuilder& g, std::uint32_t node, const MlpShape& shape, LayerWeights& weights);
/// For the widest MLP of the model; nothing if it has none.
MlpActivations mlp_activations(GraphBuilder& g, std::uint32_t node, std::int64_t rows);

/// `normed` rows to `branch` rows: up-projection (with the gate's), activation, down-projection.
TaskId mlp(GraphBuilder& g, const CompNode& n, const MlpShape& shape, std::int64_t rows, TaskId after);

}  // namespace tessera::models
