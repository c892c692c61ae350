#pragma once
// A node that holds hidden rows and does the work on each token by itself: embedding, norms, the head. What
// attention and feed-forward networks need of such a node is in the files of their kinds.

#include "models/dataflow/graph_builder.hpp"

namespace tessera::models {

/// The weight buffers of one layer: those that its kinds have.
struct LayerWeights {
  BufferId qkv = 0, o = 0;    ///< dense attention
  BufferId up = 0, down = 0;  ///< MLP
};

/// Activations of dense attention, as large as its largest layer needs.
struct DenseActivations {
  BufferId projections = 0, parts = 0, stats = 0, attended = 0;
};
struct MlpActivations {
  BufferId wide = 0, activated = 0;
};

struct CompNode {
  std::uint32_t id = 0;
  BufferId table = 0, head = 0, norm = 0;
  std::vector<LayerWeights> layers;
  BufferId hidden = 0, normed = 0, branch = 0, logits = 0;
  DenseActivations dense;
  MlpActivations mlp;

  const LayerWeights& weights(const GraphBuilder& g) const {
    return layers[static_cast<std::size_t>(g.layer)];
  }
};

/// Allocates for `rows` hidden rows and at most `parts` partial attention results of each.
CompNode comp_node(GraphBuilder& g, std::uint32_t id, std::int64_t rows, std::int64_t parts);

// Steps of a node's work; each returns its last task.
TaskId embed(GraphBuilder& g, const CompNode& n, std::int64_t rows, std::vector<TaskId> after);

/// The norm before attention, if there is one: `output` is what attention projects.
struct Normed {
  TaskId task = 0;
  BufferId output = 0;
};
Normed attention_norm(GraphBuilder& g, const CompNode& n, std::int64_t rows, TaskId after);

/// The last row of every sequence to logits.
TaskId language_head(GraphBuilder& g, const CompNode& n, TaskId after);

}  // namespace tessera::models
