#pragma once

#include "kernels/gemm/gemm.hpp"
#include "kernels/gemm/schedule.hpp"

namespace tessera::kernels {

/// Multistage cp.async GEMM with mma.sync: two groups of four warps, each half of the tile's rows.
class GemmAmpere final : public tile::Kernel {
 public:
  GemmAmpere(const models::Gemm& gemm, const GemmTiling& tiling, const GpuSpec& gpu,
             const Addresses& addresses);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

  /// Rows of A and of W that ldmatrix reads from shared memory, for all warps: those of a group lie over its
  /// rows in pieces of 64, and beside each other over the columns.
  static std::uint64_t fragment_rows(const GemmTiling& tiling);

 private:
  models::Gemm gemm_;
  GemmTiling tiling_;
  std::uint64_t a_, w_, out_;
  std::uint32_t element_bytes_, out_bytes_;
  std::uint32_t k_steps_;
  TileOrder order_;
  tile::LaunchShape shape_;
};

}  // namespace tessera::kernels
