#pragma once
// Multi-head latent attention (MLA) of a layer, from the residual stream to the branch that is added to it:
// on the node that holds the rows, and over AttnNodes.
//
// A prompt is attended to in the naive form: the node that attends forms the keys and values of every head
// from latent rows. A decoded token is attended to in the absorbed form, over the cached rows themselves
// (docs/operators/mla.md). Over AttnNodes a latent row crosses the wire, never keys or values; a decoded
// token's query crosses absorbed, and its result before W_uv, so that AttnNodes only attend; or, by the
// workload's policy, cached rows are fetched to where the query is.

#include <vector>

#include "models/dataflow/comp_node.hpp"
#include "models/dataflow/exchange.hpp"
#include "models/dataflow/placement.hpp"

namespace tessera::models {

void add_latent_weights(GraphBuilder& g, std::uint32_t node, const MlaShape& shape, LayerWeights& weights);
/// For the largest MLA layer of the model; nothing if it has none.
LatentActivations latent_activations(GraphBuilder& g, std::uint32_t node, std::int64_t rows,
                                     std::int64_t parts);

/// Where a node forms keys and values of a prompt's latent rows.
struct Expansion {
  BufferId up = 0;    ///< [rows, heads, nope + v_dim]: W_uk c and W_uv c
  BufferId keys = 0;  ///< [rows, heads, nope + rope]: with the part that all heads share
};

class LatentOnOneNode {
 public:
  /// Allocates the caches.
  LatentOnOneNode(GraphBuilder& g, const CompNode& node);
  /// The current layer's attention of `rows` new rows.
  TaskId run(const MlaShape& shape, std::int64_t rows, TaskId after);

 private:
  GraphBuilder& g_;
  const CompNode& n_;
  Expansion expansion_;
  std::vector<BufferId> cache_;  // per layer
};

/// AttnNode (j, k) attends with the q rows of S_j to the latent rows of S_k; a row's owner merges its parts.
/// Decoding follows Workload::latents.
class LatentOverNodes {
 public:
  /// Allocates on the AttnNodes, a copy of W_uk and W_uv included.
  LatentOverNodes(GraphBuilder& g, const Placement& placement, const std::vector<CompNode>& comp);

  // As of DenseOverNodes.
  void prefill(const MlaShape& shape, const std::vector<TaskId>& ready);
  TaskId finish(const MlaShape& shape, std::uint32_t i);
  TaskId decode(const MlaShape& shape, std::uint32_t i, std::int64_t token, TaskId after);

 private:
  struct AttnNode {
    BufferId received = 0, out = 0, stats = 0;  // q and latent rows; messages put rows where they belong
    Expansion expansion;
    std::vector<BufferId> weights, cache;       // per layer
    std::vector<std::vector<TaskId>> appended;  // to the cache and not yet waited for, per layer
  };
  AttnNode& node(std::uint32_t j, std::uint32_t k) { return nodes_[j * p_.beta + k]; }
  /// The decoded token's latent row in the caches of its column, after the messages `sent`.
  void keep(const MlaShape& shape, std::uint32_t j, const std::vector<TaskId>& sent);
  TaskId route(const MlaShape& shape, std::uint32_t i, std::int64_t token, TaskId projected);
  TaskId fetch(const MlaShape& shape, std::uint32_t i, std::int64_t token, TaskId projected);

  /// Latents that a CompNode has fetched, per layer.
  struct Fetched {
    std::vector<BufferId> cache;
    std::vector<std::int64_t> last;  // position that it holds all rows up to; -1: none
  };

  GraphBuilder& g_;
  const Placement& p_;
  const std::vector<CompNode>& comp_;
  std::vector<Positions> positions_;  // of each S_j, those not cached
  std::vector<Positions> kept_;       // of each S_k
  std::vector<AttnNode> nodes_;       // row-major
  std::vector<Fetched> fetched_;      // by CompNode
  TasksByNode returned_;              // to each CompNode, of the current layer
};

}  // namespace tessera::models
