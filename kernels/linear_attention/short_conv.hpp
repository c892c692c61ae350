#pragma once
// Short causal convolutions.

#include "kernels/library/lower.hpp"
#include "kernels/linear_attention/short_ctas.hpp"

namespace tessera::kernels {

/// _causal_conv1d_fwd_kernel: a CTA of four warps per eight tokens of a sequence and 256 channels, which goes
/// from token to token. One kernel per stream.
class ShortConv final : public ShortCtas<ShortConv> {
 public:
  ShortConv(const models::CausalConv1d& op, std::uint32_t stream, const GpuSpec& gpu,
            const Addresses& addresses);
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;

 private:
  models::CausalConv1d op_;
  std::uint32_t stream_;
  Addresses at_;
};

/// _causal_conv1d_update_kernel: a CTA of four warps per token and 256 channels of all streams.
class ShortConvUpdate final : public ShortCtas<ShortConvUpdate> {
 public:
  ShortConvUpdate(const models::CausalConv1d& op, const GpuSpec& gpu, const Addresses& addresses);
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;

 private:
  models::CausalConv1d op_;
  Addresses at_;
};

}  // namespace tessera::kernels
