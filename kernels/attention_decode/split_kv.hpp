#pragma once
// Decode attention, the keys split over CTAs, and the merge of partial results: the CUDA kernels beside
// attention_decode.cpp. The query heads that share a key head are the rows of one mma tile.

#include "kernels/cuda/launch.hpp"

namespace tessera::cuda {

/// Row-major bf16: q and out [batch, heads, head_dim], k and v [batch, context, kv_heads, head_dim]. Scratch,
/// fp32: part_out [splits, batch, heads, head_dim], part_max and part_sum [splits, batch, heads].
struct DecodeCall {
  const void *q = nullptr, *k = nullptr, *v = nullptr;
  void* out = nullptr;
  float *part_out = nullptr, *part_max = nullptr, *part_sum = nullptr;
  std::int64_t batch = 1, context = 0, heads = 1, kv_heads = 1, head_dim = 128, splits = 1;
};
inline constexpr std::int64_t kDecodeKeys = 64;  ///< of a tile
/// head_dim 64 or 128.
void launch_split_kv(const DecodeCall& call, Stream stream);
/// out of the parts.
void launch_combine(const DecodeCall& call, Stream stream);

/// CompNode's merge: out [rows, heads, head_dim] = sum_p w_p o_p / sum_p w_p, w_p = expsum_p exp(max_p -
/// max). Parts are bf16 [parts, rows, heads, head_dim], their max and expsum [parts, rows, heads]. A part
/// whose expsum is 0 is not read.
struct MergeCall {
  const void* parts_out = nullptr;
  const float *max = nullptr, *expsum = nullptr;
  void* out = nullptr;
  std::int64_t rows = 0, heads = 1, head_dim = 128, parts = 1;
};
void launch_merge(const MergeCall& call, Stream stream);

}  // namespace tessera::cuda
