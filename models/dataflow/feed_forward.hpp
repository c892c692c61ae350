#pragma once
// A layer after its attention, on all nodes that hold hidden rows: norm, feed-forward network, norm.

#include <vector>

#include "models/dataflow/moe.hpp"

namespace tessera::models {

class FeedForward {
 public:
  /// Allocates what a mixture of experts needs; node i has at most most_rows[i] rows at a time.
  FeedForward(GraphBuilder& g, const std::vector<CompNode>& nodes,
              const std::vector<std::int64_t>& most_rows);

  /// The current layer: node i has rows[i] rows whose attention result lies in `branch` after last[i], which
  /// becomes the task that completes them. Nothing is read of nodes without rows.
  void run(const std::vector<std::int64_t>& rows, std::vector<TaskId>& last);

 private:
  GraphBuilder& g_;
  const std::vector<CompNode>& nodes_;
  MixtureOfExperts experts_;
};

}  // namespace tessera::models
