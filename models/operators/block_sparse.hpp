#pragma once
// Block-sparse gated attention (MoBA, arXiv 2502.13189): whole, and the parts of its sharded dataflow.
//
// Keys lie in blocks of `block` original positions. A query's score of a past block is the product with the
// mean of its keys (after RoPE, not scaled); its own block is always taken, causally; top-k counts it.

#include <string>
#include <string_view>
#include <vector>

#include "models/operators/operand.hpp"
#include "models/operators/selection.hpp"

namespace tessera::models {

/// fused: FlashMoBA's kernels (arXiv 2511.11571). five_step: MoonshotAI/MoBA's moba_efficient, one kernel for
/// each step of PyTorch, key heads expanded to query heads.
enum class MobaVariant : std::uint8_t { fused, five_step };

/// Prefill of `batch` whole sequences: out = softmax over own block (causal) and selected past blocks.
struct Moba {
  std::int64_t batch = 1;
  std::int64_t seq = 0, heads = 0, kv_heads = 0, head_dim = 0;
  std::int64_t block = 0, topk = 0;
  MobaVariant variant = MobaVariant::fused;
  Selection selection;
  Dtype dtype = Dtype::bf16;
};

/// Which layers of a model attend in full, with the same parameters: the first and last few, and every layer
/// from a training step on. (Which tokens do in the others: MobaShape::full.) Llama-3-8B-1M-MoBA keeps the last 3 of 32 full; its training ends with a tenth of
/// the tokens in full attention.
struct Hybrid {
  int first_full = 0, last_full = 0;
  std::int64_t full_from_step = -1;  ///< -1: never
  bool full(int layer, int layers, std::int64_t step = 0) const {
    return layer < first_full || layer >= layers - last_full ||
           (full_from_step >= 0 && step >= full_from_step);
  }
};

/// Sums over the keys that a node holds of each block, fp32, with the number of keys: [blocks, kv_heads,
/// head_dim + 1]. Sums of nodes add up to block means.
struct BlockPool {
  std::int64_t batch = 1;
  std::int64_t kv_rows = 0, kv_heads = 0, head_dim = 0;
  std::int64_t block = 0;
  Positions kv_positions;
  Dtype dtype = Dtype::bf16;
};

/// Scores of q rows against the means of all earlier whole blocks, and the top-k's: [q_rows, heads, topk] of
/// int32, the own block first.
struct BlockGate {
  std::int64_t batch = 1;
  std::int64_t q_rows = 0, heads = 0, kv_heads = 0, head_dim = 0;
  std::int64_t block = 0, topk = 0;
  Positions q_positions;
  Dtype dtype = Dtype::bf16;
};

/// The selected (query, block) pairs among a node's own keys: out, row maximum and sum of exponentials, for a
/// later Merge. A query sees of its own block what lies at or before it.
struct BlockSparseAttention {
  std::int64_t batch = 1;
  std::int64_t q_rows = 0, kv_rows = 0, heads = 0, kv_heads = 0, head_dim = 0;
  std::int64_t block = 0, topk = 0;
  Positions q_positions, kv_positions;
  Selection selection;
  Dtype dtype = Dtype::bf16;
};

/// What of one block a head does on one node.
struct BlockRows {
  std::int64_t routed = 0;     ///< query rows of later blocks that take it
  std::int64_t own = 0;        ///< query rows that lie in it
  std::int64_t keys = 0;       ///< that the node holds of it
  std::int64_t own_pairs = 0;  ///< visible (query, key) pairs of the rows in it
};
/// By block, of head `head` of sequence `sequence`.
std::vector<BlockRows> block_rows(const Moba& op, std::int64_t sequence, std::int64_t head);
std::vector<BlockRows> block_rows(const BlockSparseAttention& op, std::int64_t sequence, std::int64_t head);

std::string_view kind(const Moba& op);
std::string_view kind(const BlockPool& op);
std::string_view kind(const BlockGate& op);
std::string_view kind(const BlockSparseAttention& op);
double flops(const Moba& op);
double flops(const BlockPool& op);
double flops(const BlockGate& op);
double flops(const BlockSparseAttention& op);
std::vector<Operand> operands(const Moba& op);
std::vector<Operand> operands(const BlockPool& op);
std::vector<Operand> operands(const BlockGate& op);
std::vector<Operand> operands(const BlockSparseAttention& op);
std::string signature(const Moba& op);
std::string signature(const BlockPool& op);
std::string signature(const BlockGate& op);
std::string signature(const BlockSparseAttention& op);
void require_possible(const Moba& op);
void require_possible(const BlockPool& op);
void require_possible(const BlockGate& op);
void require_possible(const BlockSparseAttention& op);

}  // namespace tessera::models
