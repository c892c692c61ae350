#include "kernels/gemm/batched.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace tessera::kernels {

BatchedGemmKernel::BatchedGemmKernel(std::vector<std::unique_ptr<tile::Kernel>> products)
    : products_{std::move(products)},
      grid_{products_.front()->shape().grid},
      shape_{products_.front()->shape()} {
  const auto batches = static_cast<std::uint32_t>(products_.size());
  shape_.name = fmt::format("batched {} x {}", batches, shape_.name);
  shape_.grid *= batches;
  shape_.trips *= batches;
  shape_.even_trips = 0;
}

tile::Program BatchedGemmKernel::program(tile::Cta cta, std::uint32_t role) const {
  return products_[cta.index / grid_]->program({cta.index % grid_, cta.rank}, role);
}

tile::Outline BatchedGemmKernel::outline() const {
  tile::Outline o = products_.front()->outline();
  o.rounds *= products_.size();
  o.load_bytes *= products_.size();
  o.store_bytes *= products_.size();
  o.rereads = 1;  // each product's operands are small
  return o;
}

std::unique_ptr<tile::Kernel> BatchedGemmKernel::excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                                         std::uint32_t trips) const {
  return products_.front()->excerpt(ctas, pieces, trips);
}

std::vector<std::unique_ptr<tile::Kernel>> make_batched_gemm(const models::BatchedGemm& gemm,
                                                             const GpuSpec& gpu, const Addresses& addresses) {
  const models::Gemm one{.m = gemm.m, .n = gemm.n, .k = gemm.k, .dtype = gemm.dtype};
  GpuSpec share = gpu;
  share.gpc_sms = {static_cast<int>(std::max<std::int64_t>(1, gpu.sms() / gemm.batches))};
  GemmTiling tiling = choose_gemm_tiling(one, share);
  tiling.split_k = 1;
  const auto bytes = static_cast<std::uint64_t>(models::bytes_of(gemm.dtype));
  std::vector<std::unique_ptr<tile::Kernel>> products;
  for (std::int64_t b = 0; b < gemm.batches; ++b) {
    Addresses at = addresses;
    for (std::size_t i = 0; const std::int64_t elements : {gemm.m * gemm.k, gemm.n * gemm.k, gemm.m * gemm.n})
      at.operands[i++] += static_cast<std::uint64_t>(b * elements) * bytes;
    products.push_back(std::move(make_gemm(one, gpu, at, tiling).front()));
  }
  std::vector<std::unique_ptr<tile::Kernel>> kernels;
  kernels.push_back(std::make_unique<BatchedGemmKernel>(std::move(products)));
  return kernels;
}

}  // namespace tessera::kernels
