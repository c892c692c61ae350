#pragma once
// Decode: the recurrence token by token, the state read and written in fp32.

#include "kernels/library/lower.hpp"
#include "kernels/linear_attention/short_ctas.hpp"

namespace tessera::kernels {

/// Where the operands of a decode step lie; 0: it has none.
struct DecodeAddresses {
  std::uint64_t q = 0, k = 0, v = 0, decay = 0, strength = 0, state = 0, out = 0, state_out = 0, states = 0;
  std::uint64_t conv_weights = 0, conv_state = 0, conv_state_out = 0, gate = 0;
};

/// fused_recurrent_kda_packed_decode_kernel, and for several tokens
/// fused_sigmoid_gating_delta_rule_update_kernel: a CTA of one warp per sequence, head and 32 value channels,
/// its slice of the state in registers.
class RecurrentStep final : public ShortCtas<RecurrentStep> {
 public:
  RecurrentStep(const models::LinearDecode& op, const GpuSpec& gpu, const Addresses& addresses);
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;

 private:
  models::LinearDecode op_;
  DecodeAddresses at_;
  std::uint32_t warps_;          // slices side by side
  std::uint64_t warp_exchange_;  // cycles: from lane to lane through shared memory
};

/// kda_fused_decode: a CTA of eight warps per sequence and head does the short convolutions, the recurrence
/// and the gated norm. The state comes through shared memory, 32 value channels at a time, by bulk copies
/// issued at the start.
class FusedDecode final : public tile::Kernel {
 public:
  FusedDecode(const models::LinearDecode& op, const GpuSpec& gpu, const Addresses& addresses);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

 private:
  models::LinearDecode op_;
  DecodeAddresses at_;
  Chains chains_;
  tile::LaunchShape shape_;
};

}  // namespace tessera::kernels
