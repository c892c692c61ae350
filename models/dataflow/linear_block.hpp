#pragma once
// The steps of a KDA block that its placements share (linear_attention.cpp, linear_segments.cpp).

#include "models/dataflow/linear_attention.hpp"

namespace tessera::models::linear {

std::int64_t qkv_width(const KdaShape& k);
/// Of a row on its way to the node that goes on with it: q, k, v, decay, strength.
std::int64_t sent_width(const KdaShape& k);

/// The recurrence of the prompt's new tokens, and of one token of each sequence.
LinearAttention chunked(const GraphBuilder& g, const KdaShape& k);
LinearDecode step(const GraphBuilder& g, const KdaShape& k);
/// Of `seq` tokens from nothing or from the past inputs kept, or of one token.
CausalConv1d convolution(const GraphBuilder& g, const KdaShape& k, std::int64_t seq);

/// `rows`: of the prompt, or of one token if that is more; `shapes`: the node's heads by layer, none of what
/// is no KDA layer. With `states`, those are kept here.
LinearHeads heads(GraphBuilder& g, std::uint32_t node, std::int64_t rows, const std::vector<KdaShape>& shapes,
                  bool states);
/// Convolution and recurrence of the prompt's new tokens, or of one token of each sequence, from the states.
/// `in`: q, k, v and strengths; `decay`, `out`: where the decays are, and the result goes.
TaskId recur(GraphBuilder& g, std::uint32_t node, const KdaShape& k, const LinearHeads& h, BufferId in,
             BufferId decay, BufferId out, std::vector<TaskId> after);

/// Norm and projections of `rows` rows: q, k, v, strengths; decays and gates by way of their low ranks.
TaskId project(GraphBuilder& g, const CompNode& n, const KdaShape& k, std::int64_t rows, TaskId after);
/// Gated norm and O-projection. RMSNorm(o) sigmoid(gate) reads and writes what SwiGLU of gate and o does.
TaskId project_out(GraphBuilder& g, const CompNode& n, const KdaShape& k, std::int64_t rows,
                   std::vector<TaskId> after);

}  // namespace tessera::models::linear
