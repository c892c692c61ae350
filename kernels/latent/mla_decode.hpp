#pragma once
// Absorbed latent attention of one query row per sequence, the cache split over CTAs: the CUDA kernel beside
// latent_flash.cpp, by mma.sync. Every head scores the same cached rows.

#include "kernels/cuda/launch.hpp"

namespace tessera::cuda {

inline constexpr std::int64_t kMlaLatent = 512, kMlaRope = 64, kMlaKeys = 32;

/// Row-major bf16: q_latent [batch, heads, 512], q_rope [batch, heads, 64], cache [batch, context, 576], out
/// [batch, heads, 512]. Scratch, fp32: part_out [splits, batch, heads, 512], part_max and part_sum [splits,
/// batch, heads].
struct MlaDecodeCall {
  const void *q_latent = nullptr, *q_rope = nullptr, *cache = nullptr;
  void* out = nullptr;
  float *part_out = nullptr, *part_max = nullptr, *part_sum = nullptr;
  std::int64_t batch = 1, context = 0, heads = 1, splits = 1;
  float scale = 1;
};
void launch_mla_decode(const MlaDecodeCall& call, Stream stream);
void launch_mla_combine(const MlaDecodeCall& call, Stream stream);

}  // namespace tessera::cuda
