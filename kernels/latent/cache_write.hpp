#pragma once
// SGLang's set_mla_kv_buffer: new latents and rotated keys to their rows of the cache, a Triton program for
// each 128 elements of a row.

#include "kernels/attention_paged/call.hpp"

namespace tessera::kernels {

class LatentCacheWrite final : public tile::Kernel {
 public:
  /// `places`: int32 row numbers of the new rows; `from`: new rows, `to`: the cache, both `row_bytes` wide.
  LatentCacheWrite(const PagedCall& call, std::uint32_t row_bytes, std::uint64_t places, std::uint64_t from,
                   std::uint64_t to);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;

 private:
  PagedCall call_;
  std::uint32_t row_bytes_, rows_per_cta_;
  std::uint64_t places_, from_, to_;
  tile::LaunchShape shape_;
};

}  // namespace tessera::kernels
