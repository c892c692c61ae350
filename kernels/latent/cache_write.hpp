#pragma once
// New latents and rotated keys to their rows of the cache.

#include "kernels/attention_paged/call.hpp"

namespace tessera::kernels {

/// SGLang's set_mla_kv_buffer, on Hopper: a Triton program for each 128 elements of a row, of many rows a
/// warp with one bulk store for each.
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

/// vLLM's concat_and_cache_mla (csrc/cache_kernels.cu): a CTA for each new row, whose 512 threads copy an
/// element at a time.
class ConcatAndCache final : public tile::Kernel {
 public:
  /// As LatentCacheWrite; the row numbers are 64 bits wide, and taken apart into page and row by a division.
  ConcatAndCache(const PagedCall& call, std::uint32_t row_bytes, std::uint64_t places, std::uint64_t from,
                 std::uint64_t to);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;

 private:
  PagedCall call_;
  std::uint32_t row_bytes_;
  std::uint64_t places_, from_, to_;
  tile::LaunchShape shape_;
};

}  // namespace tessera::kernels
