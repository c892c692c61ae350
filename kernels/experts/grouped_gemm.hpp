#pragma once
// The grouped product of a mixture of experts as vLLM's Triton kernel fused_moe_kernel does it.

#include <cstdint>
#include <memory>

#include "kernels/experts/triton_tiling.hpp"
#include "kernels/library/lower.hpp"

namespace tessera::kernels {

/// C[row, n] = A[row, k] W[expert of the row][n, k]^T, for rows sorted by expert.
struct GroupedProduct {
  std::int64_t n = 0, k = 0;
  std::uint32_t element_bytes = 2;
  /// Rows of A lie in order of the tokens, of which an expert's are a part spread over all; else in sorted
  /// order.
  bool gathered = false;
  std::int64_t tokens = 0;  ///< if gathered
  bool weighted = false;    ///< results are multiplied by the router's weights
  std::uint64_t a = 0, weights = 0, c = 0, choices = 0;
};

/// A CTA makes one tile of C: tiles of A and W come by cp.async into a ring in shared memory, A row by row,
/// and all warps multiply: by wgmma with tiles of at least 64 rows and four warps, else by mma.sync (Triton's
/// MMAv3 and MMAv2 layouts). Padding rows are multiplied but neither loaded nor stored. Where k is no
/// multiple of 16 Triton does not know the rows' alignment, loads element by element through registers, and
/// has no ring.
class GroupedGemm final : public tile::Kernel {
 public:
  GroupedGemm(const GroupedProduct& product, const TritonTiling& tiling, Blocks blocks, const GpuSpec& gpu);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

 private:
  struct Place {
    std::uint32_t row = 0, col = 0;  // of the tile
  };
  Place place(std::uint32_t cta) const;
  std::uint32_t ahead() const;
  tile::Box a_box(const RowBlocks::Block& b, std::uint32_t step) const;
  tile::Box w_box(const RowBlocks::Block& b, std::uint32_t col, std::uint32_t step) const;
  std::uint32_t depth_bytes(std::uint32_t step) const;

  GroupedProduct product_;
  TritonTiling tiling_;
  Blocks blocks_;
  std::uint32_t steps_ = 0, columns_ = 0;  // columns of tiles
  bool wgmma_ = false, narrow_ = false;
  std::uint64_t mma_chain_ = 0;  // cycles that a step's dependent products take beyond the last
  std::uint64_t cold_code_ = 0;  // cycles in which a CTA's code comes out of the L2
  tile::LaunchShape shape_;
};

}  // namespace tessera::kernels
