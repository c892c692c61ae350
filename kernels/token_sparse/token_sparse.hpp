#pragma once
// Native sparse attention and DeepSeek sparse attention: models/operators/token_sparse.hpp.
//
// NSA, after fla-org/flash-linear-attention (fla/ops/nsa, Triton): a CTA for each query row and key head,
// whose query heads are the rows of its products; compressed keys are means. DSA, after DeepGEMM's
// fp8_mqa_logits and FlashMLA's sparse prefill: logits of all cached rows, a CTA's radix select for each row,
// and 64 heads of a row to a CTA that gathers 64 cached rows at a time.

#include <memory>
#include <vector>

#include "kernels/library/lower.hpp"

namespace tessera::kernels {

std::vector<std::unique_ptr<tile::Kernel>> make_native_sparse(const models::NativeSparse& op,
                                                              const GpuSpec& gpu, const Addresses& addresses);
std::vector<std::unique_ptr<tile::Kernel>> make_indexed_latent(const models::IndexedLatent& op,
                                                               const GpuSpec& gpu,
                                                               const Addresses& addresses);

}  // namespace tessera::kernels
