#pragma once
// The kernels of linear attention as SGLang 0.5.16 launches them: its copy of flash-linear-attention's Triton
// kernels (python/sglang/kernels/ops/attention/fla, ops/mamba/causal_conv1d_triton.py).

#include <memory>
#include <vector>

#include "kernels/library/lower.hpp"

namespace tessera::kernels {

std::vector<std::unique_ptr<tile::Kernel>> make_linear_attention(const models::LinearAttention& op,
                                                                 const GpuSpec& gpu,
                                                                 const Addresses& addresses);
std::vector<std::unique_ptr<tile::Kernel>> make_state_scan(const models::StateScan& op, const GpuSpec& gpu,
                                                           const Addresses& addresses);
std::vector<std::unique_ptr<tile::Kernel>> make_linear_decode(const models::LinearDecode& op,
                                                              const GpuSpec& gpu, const Addresses& addresses);
std::vector<std::unique_ptr<tile::Kernel>> make_causal_conv1d(const models::CausalConv1d& op,
                                                              const GpuSpec& gpu, const Addresses& addresses);

}  // namespace tessera::kernels
