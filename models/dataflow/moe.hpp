#pragma once
// The mixture of experts of a layer, on the nodes that hold hidden rows: each node with all experts, or the
// routed ones spread over the nodes. Router and shared experts work where a row is; spread, a row goes to
// every node that holds one of its experts (dispatch), which sends back the weighted sum of theirs (combine).

#include <map>
#include <tuple>
#include <vector>

#include "models/dataflow/comp_node.hpp"
#include "models/dataflow/expert_spread.hpp"

namespace tessera::models {

class MixtureOfExperts {
 public:
  /// Allocates on `nodes`, of which node i has at most most_rows[i] rows of its own at a time; nothing if the
  /// model has no such layer.
  MixtureOfExperts(GraphBuilder& g, const std::vector<CompNode>& nodes,
                   const std::vector<std::int64_t>& most_rows);

  /// The current layer: `normed` rows to `branch` rows. Node i has rows[i] of them, after last[i], which
  /// becomes the task that completes them; without rows it may still work on others'.
  void run(const MoeShape& shape, const std::vector<std::int64_t>& rows, std::vector<TaskId>& last);

 private:
  struct LayerWeights {
    BufferId router = 0, experts = 0, shared_up = 0, shared_down = 0;
  };
  struct Node {
    std::vector<LayerWeights> weights;  // per layer
    BufferId logits = 0, choices = 0;
    BufferId received = 0, results = 0;  // spread: rows for the experts here, and what they make of them
    BufferId parts = 0;                  // of a row's sum: from experts, shared and routed
    BufferId wide = 0, activated = 0;    // of shared experts
  };
  /// Nodes first .. last - 1 share the routed experts.
  void run_group(const MoeShape& shape, std::size_t first, std::size_t last_node,
                 const std::vector<std::int64_t>& rows, std::vector<TaskId>& last);
  /// On node i, whose rows are in `normed`: the choice of experts.
  TaskId route(const MoeShape& shape, std::size_t i, std::int64_t rows, TaskId after);
  /// The shared experts, one network of all their widths.
  TaskId shared(const MoeShape& shape, std::size_t i, std::int64_t rows, TaskId after);
  const ExpertTraffic& traffic(const MoeShape& shape, const std::vector<std::int64_t>& rows);
  void add_weights(std::size_t i, const MoeShape& shape, std::int64_t experts);

  GraphBuilder& g_;
  const std::vector<CompNode>& comp_;
  bool spread_ = false;
  std::vector<Node> nodes_;
  std::map<std::tuple<std::int64_t, std::int64_t, int, std::vector<std::int64_t>>, ExpertTraffic> traffic_;
};

}  // namespace tessera::models
