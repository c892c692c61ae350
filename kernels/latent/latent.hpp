#pragma once
// Multi-head latent attention (equations: docs/operators/mla.md).
//
// On Hopper the naive form is FlashAttention-3 with 192 columns of q and k and 128 of v. The absorbed form is
// FlashAttention-3's kernel for 64 + 512 columns (latent_flash.hpp), alone, or as a serving engine calls it:
// cache write, schedule, attention, combination of splits.
// [SGLang FlashAttentionBackend, set_mla_kv_buffer; FlashAttention hopper/]
//
// Elsewhere, or on request, the naive form is FlashAttention-2 (padded_flash2.hpp), a decode step Triton's
// split-KV kernels (triton_decode.hpp), as vLLM has it. [backends/mla/triton_mla.py]

#include <memory>
#include <vector>

#include "kernels/library/lower.hpp"

namespace tessera::kernels {

std::vector<std::unique_ptr<tile::Kernel>> make_latent_attention(const models::LatentAttention& attention,
                                                                 const GpuSpec& gpu,
                                                                 const Addresses& addresses);
std::vector<std::unique_ptr<tile::Kernel>> make_latent_decode(const models::LatentDecode& attention,
                                                              const GpuSpec& gpu, const Addresses& addresses);

}  // namespace tessera::kernels
