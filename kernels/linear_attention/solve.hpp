#pragma once
// (I + A)^-1 of each chunk, by sub-chunks of 16 tokens.

#include "kernels/linear_attention/chunks.hpp"
#include "kernels/linear_attention/short_ctas.hpp"

namespace tessera::kernels {

/// chunk_kda_fwd_kernel_inter_solve_fused, or for a decay that is not a vector solve_tril. A CTA of two
/// warps per chunk and head (fused: four): scores below the diagonal, forward substitution on the blocks on
/// it, row by row, and the merge of the blocks. `fused` (FUSE_DIAGONAL and FUSE_RECOMPUTE, which SGLang takes
/// for at most 256 CTAs) computes the diagonal too and, from the inverse in registers, U, W and the decayed
/// keys.
class Solve final : public ShortCtas<Solve> {
 public:
  Solve(const ChunkedCall& call, bool fused, const GpuSpec& gpu);
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;

 private:
  ChunkedCall call_;
  bool fused_;
  std::uint32_t beside_;  // chunks and heads whose CTAs run side by side
};

/// recompute_w_u_fwd_kernel: U = M V, W = M (e^G K) and the keys decayed to the chunk's end. A CTA of eight
/// warps per chunk and head.
class RecomputeWU final : public ShortCtas<RecomputeWU> {
 public:
  RecomputeWU(const ChunkedCall& call, const GpuSpec& gpu);
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;

 private:
  ChunkedCall call_;
  bool wgmma_;
};

}  // namespace tessera::kernels
