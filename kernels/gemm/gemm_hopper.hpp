#pragma once

#include "kernels/gemm/gemm.hpp"
#include "kernels/gemm/schedule.hpp"

namespace tessera::kernels {

class GemmHopper final : public tile::Kernel {
 public:
  GemmHopper(const models::Gemm& gemm, const GemmTiling& tiling, const GpuSpec& gpu,
             const Addresses& addresses);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

 private:
  /// One unit of a CTA's work: an output tile and a range of k-steps. Rows are those of wgmma: along m, or
  /// along n if transposed. A cluster's CTAs lie column by column; whoever has a row of it shares X, whoever
  /// has a column Y.
  struct Work {
    std::uint32_t row, col;    // first element of the tile
    std::uint32_t rows, cols;  // inside the matrix (0: the cluster hangs over the edge)
    std::uint32_t first_step, steps;
    std::uint32_t piece;  // of the split
  };
  std::uint32_t units() const { return order_.count() * tiling_.split_k; }
  Work work(std::uint32_t unit, std::uint32_t rank) const;
  std::uint64_t step_bytes(const Work& w, std::uint32_t step) const;
  /// k-steps from number `i` on that are alike: the ring is full, and the last one may be short.
  std::uint32_t alike(const Work& w, std::uint32_t i) const {
    return i >= tiling_.stages && i + 1 < w.steps ? w.steps - 1 - i : 0;
  }

  tile::Program producer(tile::Cta cta) const;
  tile::Program consumer(tile::Cta cta, std::uint32_t index) const;
  std::uint8_t full(std::uint32_t stage) const { return static_cast<std::uint8_t>(stage); }
  std::uint8_t empty(std::uint32_t stage) const { return static_cast<std::uint8_t>(tiling_.stages + stage); }

  models::Gemm gemm_;
  GemmTiling tiling_;
  std::int64_t rows_, cols_;   // of the product as wgmma sees it
  std::uint64_t x_, y_, out_;  // operands with `rows_` and `cols_` rows of k
  std::uint32_t consumers_, rows_per_consumer_;
  std::uint32_t element_bytes_, out_bytes_;
  std::uint32_t k_steps_;
  TileOrder order_;  // of clusters
  tile::LaunchShape shape_;
};

}  // namespace tessera::kernels
