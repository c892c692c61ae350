#pragma once
// A node that holds hidden rows and does the work on each token by itself: embedding, norms, the head. What
// attention and feed-forward networks need of such a node is in the files of their kinds.

#include "models/dataflow/graph_builder.hpp"

namespace tessera::models {

/// The weight buffers of one layer: those that its kinds have.
struct LayerWeights {
  BufferId qkv = 0, o = 0;  ///< dense attention, KDA (with its other first projections); o of all
  BufferId latent = 0, latent_norms = 0, query = 0, latent_up = 0;  ///< MLA
  BufferId gates = 0;                                               ///< KDA: decay and gate from low rank
  BufferId up = 0, down = 0;                                        ///< MLP
};

/// Activations of dense attention, as large as its largest layer needs.
struct DenseActivations {
  BufferId projections = 0, parts = 0, stats = 0, attended = 0;
};
/// Of MLA: rows of low rank, with the latent row last; queries, and those of decoded tokens absorbed; what
/// AttnNodes return; results before W_uv, of decoded tokens, and after it.
struct LatentActivations {
  BufferId low = 0, query = 0, absorbed = 0, parts = 0, stats = 0, summed = 0, attended = 0;
};
/// Of KDA: `gated` holds decays, gates and the recurrence's result, `attended` the gated norm's.
struct LinearActivations {
  BufferId projections = 0, gated = 0, attended = 0;
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
  LatentActivations latent;
  LinearActivations linear;
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
