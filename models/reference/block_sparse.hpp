#pragma once
// Float64 numerics of block-sparse gated attention (MoBA, arXiv 2502.13189) and of its relatives, which
// differ in the gate only: whole, as the five steps of the published code, and sharded.
//
// Blocks lie on original positions. Every row of a whole sequence 0 .. rows - 1 takes its own block,
// causally, and at most topk - 1 earlier ones, which are then whole.

#include <cstdint>
#include <vector>

#include "models/operators/selection.hpp"
#include "models/reference/attention.hpp"
#include "models/sharding/sharding.hpp"

namespace tessera::models::reference {

enum class Gate {
  mean,    ///< MoBA: q . mean(k); LongHeads with top-k 2: the best earlier block and the own one
  extent,  ///< Quest: sum over elements of max(q min(k), q max(k))
  recent,  ///< sliding window: the nearest blocks
  sink     ///< attention sink: the first `sinks` blocks, then the nearest ones
};

struct BlockSparse {
  std::int64_t block = 1, topk = 1;
  Gate gate = Gate::mean;
  std::int64_t sinks = 1;
  std::int64_t full_from = 0, full_to = 0;  ///< rows at positions [from, to) see all earlier keys
};

/// What a node knows of each block from the keys it holds. Blocks of which it holds none have count 0.
struct BlockSummary {
  std::vector<std::int64_t> count;       ///< [blocks]
  std::vector<double> sum, least, most;  ///< [blocks, kv_heads, head_dim]
};
/// Of `blocks` blocks.
BlockSummary pool(const HeadShape& shape, const BlockSparse& rule, const Rows& k, std::int64_t blocks);
/// Of what several nodes hold: a partition of the keys.
BlockSummary combine(const std::vector<BlockSummary>& parts);

/// For the rows of q, at their positions, in a list of `tokens` rows; other rows take nothing.
SelectionLists select(const HeadShape& shape, const BlockSparse& rule, const Rows& q,
                      const BlockSummary& summary, std::int64_t tokens);

/// The own-block and selected pairs among the given keys.
Partial selected_attention(const HeadShape& shape, const BlockSparse& rule, const SelectionLists& selection,
                           const Rows& q, const Rows& k, const Rows& v);

/// A dense softmax under the selection's mask (moba_naive).
std::vector<double> block_sparse(const HeadShape& shape, const BlockSparse& rule, const Rows& q,
                                 const Rows& k, const Rows& v);
/// Causal attention block by block, plain attention of each (block, head) by the queries gathered for it, and
/// the merge by maximum and sum of exponentials (moba_efficient).
std::vector<double> block_sparse_five_step(const HeadShape& shape, const BlockSparse& rule, const Rows& q,
                                           const Rows& k, const Rows& v);
/// Over AttnNodes: nodes (., k) pool the keys of S_k, the sums become block summaries, each row is gated
/// once, node (j, k) attends the selected pairs of S_j and S_k, with rows that see everything as dense
/// attention does, and the parts of a row are merged.
std::vector<double> block_sparse_sharded(const HeadShape& shape, const BlockSparse& rule, const Partition& s,
                                         const Rows& q, const Rows& k, const Rows& v);

}  // namespace tessera::models::reference
