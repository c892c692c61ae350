#pragma once
// FlashAttention-2 by mma.sync: the CUDA kernel beside flash2.cpp. Also an AttnNode's partial attention over
// any index sets, and MLA's naive prefill (192 wide queries and keys, 128 wide values).

#include "kernels/cuda/launch.hpp"

namespace tessera::cuda {

/// Row-major bf16: q [batch, q_rows, heads, qk_dim], k [batch, kv_rows, kv_heads, qk_dim], v [.., v_dim], out
/// [batch, q_rows, heads, v_dim]. Query i stands at q_positions[i], or where the last is the last key; key j
/// at kv_positions[j], or j. A causal query sees the positions up to its own; one that sees none gets 0.
struct FlashCall {
  const void *q = nullptr, *k = nullptr, *v = nullptr;
  void* out = nullptr;
  float *max = nullptr, *expsum = nullptr;  ///< [batch, q_rows, heads], or null
  const std::int32_t *q_positions = nullptr, *kv_positions = nullptr;
  std::int64_t batch = 1, q_rows = 0, kv_rows = 0, heads = 1, kv_heads = 1;
  bool causal = true;
  float scale = 1;
};
/// Which (qk_dim, v_dim) there are: (64, 64), (128, 128), (192, 128).
constexpr bool has_flash_mma(std::int64_t qk_dim, std::int64_t v_dim) {
  return (qk_dim == 64 && v_dim == 64) || (qk_dim == 128 && v_dim == 128) || (qk_dim == 192 && v_dim == 128);
}
void launch_flash_mma(const FlashCall& call, std::int64_t qk_dim, std::int64_t v_dim, Stream stream);

}  // namespace tessera::cuda
