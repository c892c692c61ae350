#pragma once
// GEMM with few rows (decode): the weights stream through once and everything else fits on chip. A CTA takes
// a handful of output columns at a time, multiplies by FMA for up to four rows and by mma.sync above.

#include "kernels/library/lower.hpp"

namespace tessera::kernels {

class Gemv final : public tile::Kernel {
 public:
  static constexpr std::int64_t kMostRows = 16;

  Gemv(const models::Gemm& gemm, const GpuSpec& gpu, const Addresses& addresses);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

 private:
  models::Gemm gemm_;
  std::uint64_t a_, w_, out_;
  std::uint32_t element_bytes_;
  std::uint32_t columns_;  // outputs per trip
  std::uint32_t chunk_;    // elements of k per load
  std::uint32_t trips_;
  tile::LaunchShape shape_;
};

}  // namespace tessera::kernels
