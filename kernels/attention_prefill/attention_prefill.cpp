#include "kernels/attention_prefill/attention_prefill.hpp"

#include <fmt/format.h>

#include <stdexcept>

#include "kernels/attention_prefill/flash2.hpp"
#include "kernels/attention_prefill/flash3.hpp"

namespace tessera::kernels {

std::vector<std::unique_ptr<tile::Kernel>> make_attention_prefill(const models::Attention& attention,
                                                                  const GpuSpec& gpu,
                                                                  const Addresses& addresses) {
  if (attention.dtype != models::Dtype::bf16 && attention.dtype != models::Dtype::fp16) {
    throw std::invalid_argument{
        fmt::format("attention_prefill: dtype {} has no tile program; use bf16 or fp16",
                    models::name_of(attention.dtype))};
  }
  if (attention.head_dim > 256 || attention.head_dim % 8 != 0) {
    throw std::invalid_argument{
        fmt::format("attention_prefill: head_dim {} is not a multiple of 8 up to 256", attention.head_dim)};
  }
  std::vector<std::unique_ptr<tile::Kernel>> kernels;
  if (attention.flash_version >= 3 && gpu.sm.has_tma) {
    kernels.push_back(std::make_unique<Flash3>(attention, gpu, addresses));
  } else {
    kernels.push_back(std::make_unique<Flash2>(attention, gpu, addresses));
  }
  return kernels;
}

}  // namespace tessera::kernels
