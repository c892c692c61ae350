#pragma once
// FlashMoBA's kernels (mit-han-lab/flash-moba @ e9f8481e): csrc/flash_topk, csrc/flash_moba, mma.sync and
// cp.async throughout.

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/block_sparse/loop_kernel.hpp"
#include "models/operators/block_sparse.hpp"
#include "sim/core/hardware.hpp"

namespace tessera::kernels {

/// Sums or means of the keys of each block, by head: a CTA per (block, key head, sequence), 32 rows at a time
/// (flash_moba/triton_mean_pool.py).
struct BlockMeans {
  std::vector<std::int64_t> rows;  ///< of each block of a sequence
  std::int64_t sequences = 1, kv_heads = 1, head_dim = 0;
  std::uint32_t element_bytes = 2, out_bytes = 0;  ///< of a block and head
  std::uint64_t k = 0, out = 0;
};
class BlockMeansKernel final : public LoopKernel<BlockMeansKernel> {
 public:
  BlockMeansKernel(const BlockMeans& means, const GpuSpec& gpu);

 private:
  friend class LoopKernel<BlockMeansKernel>;
  tile::Program body(std::uint32_t cta, std::uint32_t trips) const;
  BlockMeans means_;
  std::vector<std::int64_t> first_;  // row of each block
};

/// Tiled top-k: 128 query rows against block means, 32 (or 64) at a time, scores to shared memory, where one
/// thread for each row inserts them into the row's list.
struct TiledTopK {
  std::vector<std::uint32_t> blocks;  ///< that the last row of each query tile may see, its own included
  std::int64_t sequences = 1, q_rows = 0, heads = 1, kv_heads = 1, head_dim = 0, topk = 1;
  std::int64_t all_blocks = 0;
  std::uint32_t element_bytes = 2;
  std::uint64_t q = 0, means = 0, indices = 0, values = 0, counts = 0;  ///< counts 0: not counted
  bool padded = true;                                                   ///< lists of 16, 32 or 64

  std::uint32_t tile_rows() const { return head_dim > 128 ? 64 : 128; }
  std::uint32_t tile_blocks() const { return head_dim <= 64 ? 64 : 32; }
  std::uint32_t list() const { return topk <= 16 ? 16 : topk <= 32 ? 32 : 64; }
};
class TiledTopKKernel final : public LoopKernel<TiledTopKKernel> {
 public:
  TiledTopKKernel(const TiledTopK& topk, const GpuSpec& gpu);

 private:
  friend class LoopKernel<TiledTopKKernel>;
  tile::Program body(std::uint32_t cta, std::uint32_t trips) const;
  TiledTopK topk_;
  // Of a key tile: columns in which a lane of the warp inserts, and steps at which one's entries change
  // places.
  double inserting_columns_, swaps_, slowest_warp_;  // the last one's insertions by the mean warp's
  std::uint64_t barrier_;                            // cycles of a __syncthreads
};

/// Lists of query ids by block: prefix sums, one thread for each head; ids scattered; each list sorted by a
/// CTA (cub::DeviceSegmentedSort).
std::vector<std::unique_ptr<tile::Kernel>> list_kernels(std::uint64_t pairs, std::uint64_t blocks,
                                                        std::uint64_t heads, std::uint64_t indices,
                                                        std::uint64_t lists, const GpuSpec& gpu);

/// Gather and densify: a CTA owns a range of query rows of a head; for every block it finds the ids of its
/// rows in the block's list, gathers 64 of them (and their unfinished fp32 outputs) at a time, goes through
/// the block's keys, and scatters the outputs back.
struct GatherAttention {
  struct Range {
    double visits = 0;  ///< blocks looked up
    double tiles = 0;   ///< of 64 gathered rows, over all visits: expected
    double rows = 0;    ///< gathered, over all visits
  };
  std::vector<Range> ranges;          ///< of one head, for all alike; else of all, one after another
  std::uint64_t ranges_per_head = 1;  ///< heads of all sequences
  std::int64_t range_rows = 1024, block_keys = 0;
  std::int64_t sequences = 1, q_rows = 0, kv_rows = 0, heads = 1, kv_heads = 1, head_dim = 0;
  std::uint32_t element_bytes = 2;
  std::uint64_t list_length = 1;
  std::uint64_t q = 0, k = 0, v = 0, lists = 0, unfinished = 0, out = 0, stats = 0;
  std::uint64_t pairs = 0;
};
class GatherAttentionKernel final : public LoopKernel<GatherAttentionKernel> {
 public:
  GatherAttentionKernel(const GatherAttention& call, const GpuSpec& gpu);

 private:
  friend class LoopKernel<GatherAttentionKernel>;
  tile::Program body(std::uint32_t cta, std::uint32_t trips) const;
  GatherAttention call_;
  std::uint32_t mean_rows_ = 1;                // of a trip
  std::uint32_t searches_ = 16, groups_ = 16;  // sixteenths of one for each trip
  std::uint32_t l2_cycles_ = 0;                // a load that the L2 answers
  std::uint64_t barrier_ = 0;                  // cycles of a __syncthreads
};

}  // namespace tessera::kernels
