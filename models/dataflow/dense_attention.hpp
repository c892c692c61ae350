#pragma once
// Dense attention of a layer, from the residual stream to the branch that is added to it: on the node that
// holds the rows, and over AttnNodes.

#include <vector>

#include "models/dataflow/comp_node.hpp"
#include "models/dataflow/exchange.hpp"
#include "models/dataflow/placement.hpp"

namespace tessera::models {

void add_dense_weights(GraphBuilder& g, std::uint32_t node, const DenseShape& shape, LayerWeights& weights);
/// For the largest dense layer of the model; nothing if it has none.
DenseActivations dense_activations(GraphBuilder& g, std::uint32_t node, std::int64_t rows,
                                   std::int64_t parts);

class DenseOnOneNode {
 public:
  /// Allocates the caches.
  DenseOnOneNode(GraphBuilder& g, const CompNode& node);
  // run() in parts, for attention that takes several kernels:
  /// Projections and the new rows in the cache;
  TaskId begin(const DenseShape& shape, std::int64_t rows, TaskId after);
  /// the output projection.
  TaskId end(const DenseShape& shape, std::int64_t rows, TaskId attended);
  const CompNode& node() const { return n_; }
  BufferId cache() const { return cache_[static_cast<std::size_t>(g_.layer)]; }  ///< the current layer's

  /// The current layer's attention of `rows` new rows.
  TaskId run(const DenseShape& shape, std::int64_t rows, TaskId after);
  /// The same with another operator for the attention itself, of the same operands: q, k, v, out.
  TaskId run(const DenseShape& shape, std::int64_t rows, TaskId after, Operator attention);

 private:
  GraphBuilder& g_;
  const CompNode& n_;
  std::vector<BufferId> cache_;  // per layer
};

/// AttnNode (j, k) attends with the q rows of S_j to the k, v rows of S_k; a row's owner merges its parts.
class DenseOverNodes {
 public:
  /// Allocates on the AttnNodes.
  DenseOverNodes(GraphBuilder& g, const Placement& placement, const std::vector<CompNode>& comp);

  struct AttnNode {
    BufferId received = 0, out = 0, stats = 0;  ///< q, k, v of one layer; messages put rows where they belong
    std::vector<BufferId> cache;                ///< per layer
    std::vector<std::vector<TaskId>> appended;  ///< to the cache and not yet waited for, per layer
    std::vector<TaskId> arrived;                ///< what the current layer's q, k, v wait for
  };
  const AttnNode& node(std::uint32_t j, std::uint32_t k) const { return nodes_[j * p_.beta + k]; }
  const Positions& positions(std::uint32_t j) const { return positions_[j]; }  ///< of Placement::s
  const Positions& kept_positions(std::uint32_t k) const { return kept_[k]; }  ///< of Placement::kept
  /// Where AttnNode (j, k) reads the prompt's keys and values of the current layer.
  BufferId keys(std::uint32_t j, std::uint32_t k) const;

  /// The current layer for the prompt, but for the owners' part: projections after `ready[i]` on CompNode i,
  /// messages, partial attention, and the way back.
  void prefill(const DenseShape& shape, const std::vector<TaskId>& ready);
  // prefill() in parts, for attention that differs in what an AttnNode computes:
  /// Projections and messages;
  void distribute(const DenseShape& shape, const std::vector<TaskId>& ready);
  /// AttnNode (j, k)'s keys and values to its cache;
  void keep(const DenseShape& shape, std::uint32_t j, std::uint32_t k);
  /// its partial results, once `attended`, to the rows' owners.
  void give_back(const DenseShape& shape, std::uint32_t j, std::uint32_t k, TaskId attended);
  /// The owners' part, after prefill(): merge and O-projection on CompNode i.
  TaskId finish(const DenseShape& shape, std::uint32_t i);
  /// The current layer for one decoded token, which CompNode i owns.
  TaskId decode(const DenseShape& shape, std::uint32_t i, std::int64_t token, TaskId after);

 private:
  AttnNode& own(std::uint32_t j, std::uint32_t k) { return nodes_[j * p_.beta + k]; }
  RowBytes row_bytes(const DenseShape& shape) const;

  GraphBuilder& g_;
  const Placement& p_;
  const std::vector<CompNode>& comp_;
  std::vector<Positions> positions_, kept_;  // of each S_j
  std::vector<AttnNode> nodes_;              // row-major
  TasksByNode returned_;                     // to each CompNode, of the current layer
};

}  // namespace tessera::models
