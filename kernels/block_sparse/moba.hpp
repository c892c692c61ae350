#pragma once
// MoBA's prefill in CUDA, beside five_step.cpp and flash_moba.cpp: block means, gate and top-k, an index of
// each block's queries, attention of gathered queries, and the merge; or the last two in one kernel.

#include "kernels/cuda/host_device.hpp"
#include "kernels/cuda/launch.hpp"

namespace tessera::cuda {

inline constexpr int kMobaMostTopk = 16, kMobaMostBlocks = 8192;

/// Row-major: q and out [batch, seq, heads, head_dim], k and v [batch, seq, kv_heads, head_dim], bf16.
/// head_dim is 64 or 128, block a multiple of 64, topk at most 16; seq need not be a multiple of anything.
struct MobaCall {
  const void *q = nullptr, *k = nullptr, *v = nullptr;
  void* out = nullptr;
  std::int64_t batch = 1, seq = 0, heads = 1, kv_heads = 1, head_dim = 128, block = 0, topk = 0;
  /// Rows of a segment: queries are listed for each segment and block. seq in the five-step form.
  std::int64_t segment = 0;

  // Scratch. A segment list's entry is row x topk + slot; slot 0 is the query's own block.
  float* means = nullptr;            ///< [batch, blocks, kv_heads, head_dim]
  std::int32_t* selected = nullptr;  ///< [batch, seq, heads, topk]: blocks, the own one first; -1 for none
  std::int32_t* entries = nullptr;   ///< [batch, heads, seq x topk]: of segment s from s x segment x topk on
  std::int32_t* offsets =
      nullptr;  ///< [batch, heads, segments, blocks + 1]: of each block in its segment's list
  std::int32_t* tiles = nullptr;            ///< the same, in tiles of 64 queries
  void* parts_out = nullptr;                ///< five_step: [topk, batch, seq, heads, head_dim]
  float *max = nullptr, *expsum = nullptr;  ///< five_step: [topk, batch, seq, heads]; fused: without topk
  float* state = nullptr;                   ///< fused: [batch, seq, heads, head_dim]

  TESSERA_HOST_DEVICE constexpr std::int64_t blocks() const { return (seq + block - 1) / block; }
  TESSERA_HOST_DEVICE constexpr std::int64_t segments() const { return (seq + segment - 1) / segment; }
  /// Tiles of a segment at most: every block's last may be partly empty.
  TESSERA_HOST_DEVICE constexpr std::int64_t most_tiles() const { return segment * topk / 64 + blocks(); }
};
/// Of the fused form: an eighth of the sequence, 128 to 1024 rows.
TESSERA_HOST_DEVICE constexpr std::int64_t moba_fused_segment(std::int64_t seq) {
  const std::int64_t eighth = (seq / 8 + 63) / 64 * 64;
  return eighth < 128 ? 128 : eighth > 1024 ? 1024 : eighth;
}

/// Of the block that holds an item of a segment's list: the last whose offset is not above it.
TESSERA_HOST_DEVICE constexpr int block_of_item(const std::int32_t* offsets, int blocks, int item) {
  int low = 0, high = blocks;  // offsets[low] <= item < offsets[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (offsets[middle] <= item)
      low = middle;
    else
      high = middle;
  }
  return low;
}

void launch_mean_pool(const MobaCall& call, Stream stream);
void launch_gate_topk(const MobaCall& call, Stream stream);
void launch_index_build(const MobaCall& call, Stream stream);
/// Writes parts_out, max and expsum.
void launch_gathered_attention(const MobaCall& call, Stream stream);
void launch_moba_merge(const MobaCall& call, Stream stream);
/// Attention and merge in one: each CTA takes a segment of queries and goes through the blocks.
void launch_fused_gather(const MobaCall& call, Stream stream);

}  // namespace tessera::cuda
