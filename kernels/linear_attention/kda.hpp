#pragma once
// Kimi Delta Attention in CUDA, beside the tile programs of FLA's Triton kernels: plain fp32 kernels of
// Tessera's own, so that the equations of docs/operators/kda.md run on a GPU. They are not FLA's: what they
// take is not what the tile programs stand for.

#include "kernels/cuda/host_device.hpp"
#include "kernels/cuda/launch.hpp"

namespace tessera::cuda {

inline constexpr std::int64_t kKdaDim = 128, kKdaChunk = 64;

/// Row-major bf16 [batch, seq, heads, 128]: q, k, v, gate (the decay's raw input), out. fp32: state [batch,
/// heads, 128, 128] (k by v), updated in place. g = -exp(a_log) softplus(gate + dt_bias); q and k are brought
/// to length 1.
struct KdaCall {
  const void *q = nullptr, *k = nullptr, *v = nullptr, *gate = nullptr;
  const float *a_log = nullptr, *dt_bias = nullptr;  ///< [heads], [heads, 128]
  const void* beta = nullptr;                        ///< bf16 [batch, seq, heads]
  float* state = nullptr;
  void* out = nullptr;
  std::int64_t batch = 1, seq = 0, heads = 1;

  // Scratch.
  void *q_unit = nullptr, *k_unit = nullptr;  ///< bf16, as q
  float* decay = nullptr;                     ///< running sums of g within chunks, as q
  float *u = nullptr, *w = nullptr;           ///< as q; the state pass turns U into D
  float* scores = nullptr;                    ///< [batch, chunks, heads, 64, 64]
  float* states = nullptr;                    ///< [batch, chunks, heads, 128, 128]: before each chunk
  TESSERA_HOST_DEVICE constexpr std::int64_t chunks() const { return (seq + kKdaChunk - 1) / kKdaChunk; }
};
inline constexpr float kKdaLengthEpsilon = 1e-6F;  ///< x / sqrt(sum x^2 + epsilon)

void launch_kda_unit_length(const KdaCall& call, Stream stream);
void launch_kda_decay(const KdaCall& call, Stream stream);
void launch_kda_intra(const KdaCall& call, Stream stream);
void launch_kda_state_pass(const KdaCall& call, Stream stream);
void launch_kda_output(const KdaCall& call, Stream stream);
/// seq new tokens, one by one, in one kernel.
void launch_kda_decode(const KdaCall& call, Stream stream);

/// Causal depthwise convolution with SiLU over [batch, seq, channels], bf16. weight [channels, 4]. state
/// [batch, channels, 3]: the last inputs; read before if `from_state`, written after. channels: a multiple
/// of 8.
struct ConvCall {
  const void *x = nullptr, *weight = nullptr;
  void *out = nullptr, *state = nullptr;
  std::int64_t batch = 1, seq = 0, channels = 0;
  bool from_state = false;
};
inline constexpr int kConvTaps = 4;
void launch_causal_conv1d(const ConvCall& call, Stream stream);

}  // namespace tessera::cuda
