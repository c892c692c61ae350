#pragma once
// The kernels that vLLM's fused_experts launches, one after another.

#include <memory>
#include <vector>

#include "kernels/library/lower.hpp"

namespace tessera::kernels {

/// Sorting, gate and up projection, SwiGLU, down projection times the router's weights, sum of each token's
/// results. All but the products work on every row of the batch, wherever its expert is.
std::vector<std::unique_ptr<tile::Kernel>> make_moe(const models::Moe& moe, const GpuSpec& gpu,
                                                    const Addresses& addresses);

std::vector<std::unique_ptr<tile::Kernel>> make_router(const models::Router& router, const GpuSpec& gpu,
                                                       const Addresses& addresses);

}  // namespace tessera::kernels
