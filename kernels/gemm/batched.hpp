#pragma once
// Equal products side by side in one launch, the CTAs of one product after those of the other (as cuBLAS's
// strided batched GEMM, whose batch is a dimension of the grid).

#include <memory>
#include <vector>

#include "kernels/gemm/gemm.hpp"

namespace tessera::kernels {

class BatchedGemmKernel final : public tile::Kernel {
 public:
  /// `products`: kernels of equal shape, of which each has its own operands.
  explicit BatchedGemmKernel(std::vector<std::unique_ptr<tile::Kernel>> products);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

 private:
  std::vector<std::unique_ptr<tile::Kernel>> products_;
  std::uint32_t grid_;  // of one product
  tile::LaunchShape shape_;
};

/// The tiling is one product's best on its share of the SMs; k is not split.
std::vector<std::unique_ptr<tile::Kernel>> make_batched_gemm(const models::BatchedGemm& gemm,
                                                             const GpuSpec& gpu, const Addresses& addresses);

}  // namespace tessera::kernels
