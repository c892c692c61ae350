#pragma once
// Float64 numerics of a mixture of experts: the router, the routed experts, and both spread over nodes.
//
// Layouts, row-major: x [tokens, hidden]; logits [tokens, experts]; gate and up [intermediate, hidden] and
// down [hidden, intermediate] of each expert.

#include <cstdint>
#include <vector>

#include "models/operators/experts.hpp"

namespace tessera::models::reference {

struct RouterRule {
  std::int64_t topk = 1;
  RouterScore score = RouterScore::softmax;
  std::vector<double>
      bias;  ///< added to the scores for the selection only; empty: none (e_score_correction_bias)
  std::int64_t groups = 1, kept_groups = 1;
  /// A group's score: the sum of its two best experts (DeepSeek-V3), or its best (V2).
  bool two_best = true;
  bool renormalise = true;
  double scale = 1;  ///< routed_scaling_factor
};

/// Of each token in order, topk experts and their weights, the best first; equal scores: the lower index.
struct Choices {
  std::vector<std::int32_t> experts;
  std::vector<double> weights;
};

/// s = softmax(logits) or sigmoid(logits), chosen by s + bias among the kept groups, weights s / sum s *
/// scale. std::invalid_argument if topk experts cannot be had. (DeepSeek-V3, inference/model.py, Gate.)
Choices route(const RouterRule& rule, const std::vector<double>& logits, std::int64_t experts);

struct Expert {
  std::vector<double> gate, up, down;
};

/// down (silu(gate x) * up x), for every row of x.
std::vector<double> expert(const Expert& e, const std::vector<double>& x, std::int64_t hidden);

/// sum of the chosen experts' results by weight, and of the shared experts'.
std::vector<double> mixture(const std::vector<Expert>& routed, const std::vector<Expert>& shared,
                            const Choices& choices, std::int64_t topk, const std::vector<double>& x,
                            std::int64_t hidden);

/// The same with tokens and routed experts spread over nodes: node n owns tokens `tokens_of[n]` (each token
/// on one node) and experts [first_expert[n], first_expert[n + 1]). A row is sent to each node that holds one
/// of its experts (dispatch), which returns the weighted sum of its own; the owner adds those and its shared
/// experts (combine).
std::vector<double> mixture_on_nodes(const std::vector<Expert>& routed, const std::vector<Expert>& shared,
                                     const Choices& choices, std::int64_t topk, const std::vector<double>& x,
                                     std::int64_t hidden,
                                     const std::vector<std::vector<std::int32_t>>& tokens_of,
                                     const std::vector<std::int64_t>& first_expert);

/// An expert's share of a tensor-parallel node: rows [first, last) of the intermediate width. Shares' results
/// sum to the expert's.
Expert slice(const Expert& e, std::int64_t hidden, std::int64_t first, std::int64_t last);

}  // namespace tessera::models::reference
