#pragma once
// Kernels that go over rows once: the CUDA kernels beside stream.cpp. bf16, row-major.

#include "kernels/cuda/launch.hpp"

namespace tessera::cuda {

/// out = norm(in [+ residual]) x weight; the sum is written to `sum` if there is a residual. width: a
/// multiple of 8, at most 16384.
struct NormCall {
  const void *in = nullptr, *residual = nullptr, *weight = nullptr;
  void *out = nullptr, *sum = nullptr;
  std::int64_t rows = 0, width = 0;
  bool layer = false;  ///< subtracts the mean
};
inline constexpr float kNormEpsilon = 1e-5F;
void launch_norm(const NormCall& call, Stream stream);

/// Rotates halves (x_i, x_(i + head_dim / 2)) of q and k in place by row x 10000^(-2 i / head_dim).
struct RopeCall {
  void *q = nullptr, *k = nullptr;
  std::int64_t rows = 0, heads = 0, kv_heads = 0, head_dim = 0;
};
void launch_rope(const RopeCall& call, Stream stream);

/// silu(in[:, :width]) in[:, width:], or gelu(in) by the error function. width: a multiple of 8.
void launch_activation(const void* in, void* out, std::int64_t rows, std::int64_t width, bool swiglu,
                       Stream stream);
/// Of each row. width: a multiple of 8, at most 16384.
void launch_softmax(const void* in, void* out, std::int64_t rows, std::int64_t width, Stream stream);
/// out[r] = sum of in[r + i rows], inputs / rows of them.
void launch_sum(const void* in, void* out, std::int64_t rows, std::int64_t inputs, std::int64_t width,
                Stream stream);
/// out[r] = table[ids[r]].
void launch_embedding(const void* table, const std::int32_t* ids, void* out, std::int64_t rows,
                      std::int64_t width, Stream stream);
/// The driver's copy.
void launch_copy(const void* from, void* to, std::int64_t bytes, Stream stream);

}  // namespace tessera::cuda
