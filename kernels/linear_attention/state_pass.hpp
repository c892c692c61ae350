#pragma once
// The state from chunk to chunk, and what the tokens read of it.

#include "kernels/linear_attention/chunks.hpp"
#include "kernels/linear_attention/short_ctas.hpp"

namespace tessera::kernels {

/// Registers per thread of a CTA of four warps with this many columns of a state: the state, D and a product
/// in fp32, the state's copy in bf16 (two to a register), 64-bit pointers to eight arrays, and as many again
/// for indices, masks and temporary results.
std::int64_t state_registers(const ChunkedCall& call, std::uint32_t columns);
/// Shared memory of its CTA.
std::int64_t state_pass_shared_bytes(const ChunkedCall& call, std::uint32_t columns);

/// chunk_gated_delta_rule_fwd_kernel_h_blockdim64: a CTA of four warps per sequence, head and 32 value
/// channels (BV) goes through the chunks one after the other, its slice of the state in registers. It stores
/// the state before each chunk, D = U - W S (with the delta rule) and S = diag(e^G) S + K^T D. W and K of the
/// next chunk are on their way (num_stages 2); what feeds no product is loaded when it is needed.
class StatePass final : public tile::Kernel {
 public:
  StatePass(const ChunkedCall& call, const GpuSpec& gpu);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

 private:
  ChunkedCall call_;
  std::uint32_t columns_;  // value channels of a CTA
  std::uint32_t trips_;    // chunks of a sequence
  std::uint64_t ctas_;     // an excerpt may have more
  bool wgmma_;
  Chains chains_;
  tile::LaunchShape shape_;
};

/// chunk_gla_fwd_kernel_o: o = (q e^G) S + lower(scores) D; for a decay that is not a vector
/// chunk_fwd_kernel_o, which computes the scores too. A CTA of four warps per chunk, head and 64 value
/// channels.
class ChunkOutput final : public ShortCtas<ChunkOutput> {
 public:
  ChunkOutput(const ChunkedCall& call, const GpuSpec& gpu);
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;

 private:
  ChunkedCall call_;
  std::uint32_t columns_, slices_;
  bool wgmma_;
};

}  // namespace tessera::kernels
