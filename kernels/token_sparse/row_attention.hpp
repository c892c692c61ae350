#pragma once
// The kernels of attention that differs from row to row.

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/block_sparse/loop_kernel.hpp"
#include "sim/core/hardware.hpp"

namespace tessera::kernels {

/// A CTA for each query row and group of heads, which goes through the row's keys 64 at a time, the next ones
/// on their way: contiguous keys from the first on, or lists of rows or of whole blocks.
struct RowAttention {
  std::string name;
  std::vector<std::int64_t> keys;  ///< of each query row of a sequence
  std::int64_t sequences = 1, kv_rows = 0;
  std::int64_t heads = 1, group = 1;  ///< query heads in all, and of one CTA: those share their keys
  std::int64_t kv_heads = 1;          ///< 1: all groups the same keys
  std::int64_t key_dim = 0, value_dim = 0;
  bool value_in_key = false;    ///< a value is the first value_dim elements of the key's row
  std::int64_t list_block = 0;  ///< rows of a listed block; 0: the keys are the first ones
  std::int64_t splits = 1;      ///< CTAs that share a row's keys; more than one leave fp32 partials
  std::uint32_t element_bytes = 2;
  /// Addresses. q2: more columns of q, beside the others (value_in_key: the key_dim - value_dim rest).
  std::uint64_t q = 0, q2 = 0, k = 0, v = 0, lists = 0, out = 0;
  std::int64_t operand_bytes = 0;  ///< of the operator's that it reads, each byte once
  std::uint64_t between_read = 0, between_written = 0;
};
class RowAttentionKernel final : public LoopKernel<RowAttentionKernel> {
 public:
  RowAttentionKernel(const RowAttention& call, const GpuSpec& gpu);

 private:
  friend class LoopKernel<RowAttentionKernel>;
  tile::Program body(std::uint32_t cta, std::uint32_t trips) const;
  RowAttention call_;
  std::uint32_t groups_ = 1;  // of a query row
  bool wgmma_ = false;
  std::uint32_t rows_ = 16;  // of a product
};

/// Importance of the blocks of each query row, and the best of them: scores against the compressed keys
/// again, 64 at a time, summed over the group, and sorted in with the best so far (fla/ops/nsa,
/// parallel_nsa_topk).
struct BlockRanking {
  std::vector<std::int64_t> keys;  ///< compressed ones that each query row sees
  std::int64_t sequences = 1, kv_rows = 0;
  std::int64_t heads = 1, kv_heads = 1, head_dim = 0, selected = 1;
  std::uint32_t element_bytes = 2;
  std::uint64_t q = 0, k = 0, lists = 0;
};
class BlockRankingKernel final : public LoopKernel<BlockRankingKernel> {
 public:
  BlockRankingKernel(const BlockRanking& call, const GpuSpec& gpu);

 private:
  friend class LoopKernel<BlockRankingKernel>;
  tile::Program body(std::uint32_t cta, std::uint32_t trips) const;
  BlockRanking call_;
};

/// The indexer's logits, fp32: tiles of some query rows with all their index heads against 256 keys at a
/// time; keys are the rows of the products, so that a thread sums most of a row's heads itself (DeepGEMM,
/// fp8_mqa_logits). Of one-byte elements a product takes half as long.
struct IndexLogits {
  std::vector<std::int64_t> keys;  ///< that each query row sees
  std::int64_t sequences = 1, context = 0;
  std::int64_t heads = 1, dim = 0;
  std::uint32_t element_bytes = 1;
  std::uint64_t q = 0, weights = 0, k = 0, logits = 0;
};
class IndexLogitsKernel final : public LoopKernel<IndexLogitsKernel> {
 public:
  IndexLogitsKernel(const IndexLogits& call, const GpuSpec& gpu);

 private:
  friend class LoopKernel<IndexLogitsKernel>;
  tile::Program body(std::uint32_t cta, std::uint32_t trips) const;
  IndexLogits call_;
  std::int64_t tile_rows_ = 1;
  std::uint32_t splits_ = 1;  // CTAs that share the keys of a tile
  bool wgmma_ = false;
};

/// The greatest of each row of fp32 logits: a histogram of leading bits, then those above the threshold, a
/// CTA for each row.
struct RowTopK {
  std::vector<std::int64_t> keys;
  std::int64_t sequences = 1, context = 0, selected = 1;
  std::uint64_t logits = 0, lists = 0;
};
class RowTopKKernel final : public LoopKernel<RowTopKKernel> {
 public:
  RowTopKKernel(const RowTopK& call, const GpuSpec& gpu);

 private:
  friend class LoopKernel<RowTopKKernel>;
  tile::Program body(std::uint32_t cta, std::uint32_t trips) const;
  RowTopK call_;
};

}  // namespace tessera::kernels
