#pragma once

#include <vector>

#include "kernels/attention_prefill/attention_prefill.hpp"
#include "kernels/attention_prefill/query_tiles.hpp"

namespace tessera::kernels {

/// FlashAttention-2: four warps share a query tile; K and V tiles by cp.async, one ahead; two CTAs per SM
/// hide each other's softmax.
class Flash2 final : public tile::Kernel {
 public:
  Flash2(const models::Attention& attention, const GpuSpec& gpu, const Addresses& addresses);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

 private:
  models::Attention attention_;
  std::uint64_t q_, k_, v_, out_, stats_ = 0;
  std::uint32_t element_bytes_;
  std::uint32_t tile_q_ = 128, tile_kv_ = 64;
  std::vector<QueryTile> query_tiles_;
  tile::LaunchShape shape_;
};

}  // namespace tessera::kernels
