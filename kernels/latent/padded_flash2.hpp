#pragma once
// The naive form by FlashAttention-2, whose keys and values are equally wide: values are padded with zeros to
// the width of the keys, and the result is cut. What vLLM does where there is no FlashAttention-3
// (_flash_attn_varlen_diff_headdims: torch.nn.functional.pad, flash_attn_varlen_func, a slice made
// contiguous). [vllm-project/vllm, vllm/v1/attention/backends/mla/prefill/flash_attn.py; pytorch/pytorch,
// aten/src/ATen/native/PadNd.cpp (constant_pad_nd), native/cuda/Copy.cu]

#include <memory>
#include <vector>

#include "kernels/library/lower.hpp"

namespace tessera::kernels {

std::vector<std::unique_ptr<tile::Kernel>> make_padded_flash2(const models::LatentAttention& attention,
                                                              const GpuSpec& gpu, const Addresses& addresses);

}  // namespace tessera::kernels
