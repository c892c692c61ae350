#include "kernels/gemm/split_k_reduce.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace tessera::kernels {

SplitKReduce::SplitKReduce(const models::Gemm& gemm, std::uint32_t split, const GpuSpec& gpu,
                           const Addresses& addresses)
    : elements_{static_cast<std::uint64_t>(gemm.m * gemm.n)},
      split_{split},
      out_bytes_{static_cast<std::uint32_t>(models::bytes_of(gemm.dtype))},
      partials_{addresses.workspace},
      out_{addresses.operands.at(2)} {
  shape_.name = "gemm split-k reduce";
  shape_.roles = {{"threads", 8}};
  shape_.registers_per_cta = 256 * 40;

  shape_.grid = static_cast<std::uint32_t>(std::min<std::uint64_t>(
      (elements_ + kElements - 1) / kElements, static_cast<std::uint64_t>(gpu.sms()) * 6));
}

tile::Outline SplitKReduce::outline() const {
  const std::uint64_t trips = (elements_ + kElements - 1) / kElements, least = trips / shape_.grid;
  tile::Outline o{.key = fmt::format("split-k reduce {} {}", split_, out_bytes_)};
  if (const std::uint64_t more = trips % shape_.grid; more > 0)
    o.pieces.push_back({more, static_cast<std::uint32_t>(least + 1)});
  o.pieces.push_back({shape_.grid - trips % shape_.grid, static_cast<std::uint32_t>(least)});
  o.load_bytes = elements_ * 4 * split_;
  o.store_bytes = elements_ * out_bytes_;
  return o;
}

std::unique_ptr<tile::Kernel> SplitKReduce::excerpt(std::uint32_t ctas, std::uint32_t,
                                                    std::uint32_t trips) const {
  auto e = std::make_unique<SplitKReduce>(*this);
  e->elements_ = std::uint64_t{ctas} * trips * kElements;
  e->shape_.grid = ctas;
  return e;
}

tile::Program SplitKReduce::program(tile::Cta cta, std::uint32_t) const {
  for (std::uint64_t first = std::uint64_t{cta.index} * kElements; first < elements_;
       first += std::uint64_t{shape_.grid} * kElements) {
    const auto n = static_cast<std::uint32_t>(std::min<std::uint64_t>(kElements, elements_ - first));
    for (std::uint32_t s = 0; s < split_; ++s) {
      co_await tile::load({partials_ + (s * elements_ + first) * 4, 1, n * 4, 0});
    }
    co_await tile::load_wait();
    co_await tile::compute({.fma = std::uint64_t{n} * (split_ - 1), .convert = n / 2});
    co_await tile::store({out_ + first * out_bytes_, 1, n * out_bytes_, 0});
  }
}

}  // namespace tessera::kernels
