#pragma once
// FlashAttention-3's structure for compute capability 9.0: the CUDA kernel beside flash3.cpp. One producer
// warp brings tiles by TMA, two consumer warpgroups of 64 query rows multiply by wgmma.

#include "kernels/attention_prefill/flash_mma.hpp"

namespace tessera::cuda {

constexpr bool has_flash_hopper(std::int64_t head_dim) { return head_dim == 64 || head_dim == 128; }
/// As launch_flash_mma, but the positions are not looked at.
void launch_flash_hopper(const FlashCall& call, std::int64_t head_dim, Stream stream);

}  // namespace tessera::cuda
