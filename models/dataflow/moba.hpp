#pragma once
// Mixture of block attention: a layer's dense dataflow with a choice of blocks in prefill.
//
// Over AttnNodes, each block's keys lie on several columns. Node (k, k) sums those of S_k by block and sends
// the sums to every (j, j) whose queries may choose such a block; (j, j) makes means of them, scores the
// queries of S_j once, and sends each row's choice to the other nodes of its row; node (j, k) attends to
// what was chosen among its own keys. Rows at positions that attend in full take no part in the choice: node
// (j, k) attends with them to all its earlier keys. The diagonal has the queries of every row and the keys of
// every column, so nothing else is sent; projections, caches, the way back and the merge are dense
// attention's.

#include <vector>

#include "models/dataflow/dense_attention.hpp"

namespace tessera::models {

class MobaOnOneNode {
 public:
  /// Allocates what a prompt behind a cache needs; nothing if the model has no MoBA layer.
  MobaOnOneNode(GraphBuilder& g, DenseOnOneNode& dense);
  /// The current layer's attention of `rows` new rows: MoBA of the prompt, dense of a decoded token.
  TaskId run(const MobaShape& shape, std::int64_t rows, TaskId after);

 private:
  /// New rows choose among all blocks, the cached ones too: block means, choice and attention apart, as over
  /// AttnNodes.
  TaskId behind_cache(const MobaShape& shape, std::int64_t rows, TaskId after);
  BlockPool pool(const MobaShape& shape) const;
  BlockGate gate(const MobaShape& shape) const;

  GraphBuilder& g_;
  DenseOnOneNode& dense_;
  Positions new_;  // of the prompt's new rows
  BufferId means_ = 0, chosen_ = 0, stats_ = 0;
};

class MobaOverNodes {
 public:
  /// Allocates on the AttnNodes; nothing if the model has no MoBA layer.
  MobaOverNodes(GraphBuilder& g, const Placement& placement, DenseOverNodes& dense);

  /// As DenseOverNodes::prefill.
  void prefill(const MobaShape& shape, const std::vector<TaskId>& ready);
  // Dense attention's.
  TaskId finish(const MobaShape& shape, std::uint32_t i) { return dense_.finish(shape.dense, i); }
  TaskId decode(const MobaShape& shape, std::uint32_t i, std::int64_t token, TaskId after) {
    return dense_.decode(shape.dense, i, token, after);
  }

 private:
  struct Node {
    BufferId sums = 0;   // of its column's blocks, and of other columns' as they arrive
    BufferId means = 0;  // of blocks
    BufferId chosen = 0;
  };
  /// Rows of S_j that choose blocks, and those that see all earlier keys.
  struct Queries {
    Positions sparse, full;
  };
  static Queries split(const TokenRange& full, const Positions& positions);
  std::int64_t sparse_rows(std::uint32_t j) const {
    return static_cast<std::int64_t>(queries_[j].sparse->size());
  }
  Node& node(std::uint32_t j, std::uint32_t k) { return nodes_[j * p_.beta + k]; }
  /// Blocks before the last query of S_j's own: those that it may choose.
  std::int64_t past_blocks(const MobaShape& shape, std::uint32_t j) const;
  /// Of those, the ones from the first to the last that S_k holds any key of.
  std::int64_t shared_blocks(const MobaShape& shape, std::uint32_t j, std::uint32_t k) const;
  /// Sums and key count of the blocks, for one sequence.
  std::int64_t sums_bytes(const MobaShape& shape, std::int64_t blocks) const;
  std::int64_t chosen_bytes(const MobaShape& shape, std::uint32_t j) const;
  BlockPool pool(const MobaShape& shape, std::uint32_t k) const;
  TaskId attend_selected(const MobaShape& shape, std::uint32_t j, std::uint32_t k, std::vector<TaskId> after);
  TaskId attend_all(const MobaShape& shape, std::uint32_t j, std::uint32_t k, std::vector<TaskId> after);

  GraphBuilder& g_;
  const Placement& p_;
  DenseOverNodes& dense_;
  std::vector<Node> nodes_;       // row-major
  std::vector<Queries> queries_;  // of each S_j
};

}  // namespace tessera::models
