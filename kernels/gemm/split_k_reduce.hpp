#pragma once

#include "kernels/gemm/gemm.hpp"

namespace tessera::kernels {

/// Adds the fp32 partial sums of a split-K GEMM, [split, m, n] in the workspace, and rounds to the output.
class SplitKReduce final : public tile::Kernel {
 public:
  SplitKReduce(const models::Gemm& gemm, std::uint32_t split, const GpuSpec& gpu, const Addresses& addresses);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

 private:
  static constexpr std::uint32_t kElements = 2048;  // per CTA and trip: 8 per thread
  std::uint64_t elements_;
  std::uint32_t split_;
  std::uint32_t out_bytes_;
  std::uint64_t partials_, out_;
  tile::LaunchShape shape_;
};

}  // namespace tessera::kernels
