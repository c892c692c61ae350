#pragma once
// The first kernels of a chunkwise call: running sums of the decay, and the scores on the diagonal.

#include "kernels/linear_attention/chunks.hpp"
#include "kernels/linear_attention/short_ctas.hpp"

namespace tessera::kernels {

/// kda_gate_chunk_cumsum_vector_kernel, or chunk_local_cumsum of a scalar: the gate's activation and the
/// running sum over the chunk, fp32. A CTA per chunk, head and 64 channels.
class DecaySums final : public ShortCtas<DecaySums> {
 public:
  DecaySums(const ChunkedCall& call, const GpuSpec& gpu);
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;

 private:
  ChunkedCall call_;
  std::uint32_t columns_;  // of a CTA
};

/// chunk_kda_fwd_kernel_intra_token_parallel: for each token, q k^T and k k^T with the tokens before it in
/// its sub-chunk, one after the other. A CTA of a warp per token and four heads.
class DiagonalScores final : public ShortCtas<DiagonalScores> {
 public:
  DiagonalScores(const ChunkedCall& call, const GpuSpec& gpu);
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;

 private:
  ChunkedCall call_;
  std::uint32_t tokens_;  // side by side
};

/// chunk_scaled_dot_kkt_fwd_kernel: A = strictly lower(b k k^T e^(G_i - G_j)) of a chunk, for a decay that is
/// not a vector. A CTA per chunk and head.
class ScaledDot final : public ShortCtas<ScaledDot> {
 public:
  ScaledDot(const ChunkedCall& call, const GpuSpec& gpu);
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;

 private:
  ChunkedCall call_;
  bool wgmma_;
};

}  // namespace tessera::kernels
