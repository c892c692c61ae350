#include "kernels/latent/cache_write.hpp"

#include <algorithm>

#include "kernels/tile/latency.hpp"

namespace tessera::kernels {

using tile::Box;

namespace {
constexpr std::int64_t kBulkRows = 768;
constexpr std::uint32_t kTritonWarps = 4, kBulkWarps = 8, kCopyWarps = 16;
// A division of 64-bit numbers goes through a routine of 32-bit ones: about two of those, one after the
// other.
constexpr std::uint64_t kLongDivision = 2 * Chains::integer_division();

/// Where in the cache the n-th new row belongs.
std::uint64_t row_of(const PagedCall& call, std::uint64_t n) {
  const auto new_rows = static_cast<std::uint64_t>(call.new_rows),
             context = static_cast<std::uint64_t>(call.context);
  return n / new_rows * context + context - new_rows + n % new_rows;
}
}  // namespace

LatentCacheWrite::LatentCacheWrite(const PagedCall& call, std::uint32_t row_bytes, std::uint64_t places,
                                   std::uint64_t from, std::uint64_t to)
    : call_{call}, row_bytes_{row_bytes}, places_{places}, from_{from}, to_{to} {
  const std::int64_t rows = call.batch * call.new_rows;
  const bool bulk = rows >= kBulkRows;
  rows_per_cta_ = bulk ? kBulkWarps : 1;
  const std::uint32_t warps = bulk ? kBulkWarps : kTritonWarps;
  shape_.name = "latent cache write";
  shape_.roles = {{"threads", warps}};
  shape_.registers_per_cta = warps * 32 * 32;
  shape_.shared_bytes = bulk ? std::int64_t{kBulkWarps} * row_bytes : 0;
  shape_.grid = static_cast<std::uint32_t>((rows + rows_per_cta_ - 1) / rows_per_cta_);
  shape_.launched_beside = true;
}

tile::Program LatentCacheWrite::program(tile::Cta cta, std::uint32_t) const {
  const std::uint64_t first = std::uint64_t{cta.index} * rows_per_cta_;
  const auto rows = static_cast<std::uint32_t>(std::min<std::uint64_t>(
      rows_per_cta_, static_cast<std::uint64_t>(call_.batch * call_.new_rows) - first));
  co_await tile::load(Box{places_ + first * 4, 1, rows * 4, 0});
  co_await tile::load_wait();
  co_await tile::load(Box{from_ + first * row_bytes_, rows, row_bytes_, row_bytes_});
  co_await tile::load_wait();
  const bool bulk = rows_per_cta_ > 1;
  if (bulk) co_await tile::shared_store(std::uint64_t{rows} * row_bytes_);
  for (std::uint64_t row = first; row < first + rows; ++row) {
    const Box box{to_ + row_of(call_, row) * row_bytes_, 1, row_bytes_, 0};
    if (bulk)
      co_await tile::tma_store(box);
    else
      co_await tile::store(box);
  }
  if (bulk) co_await tile::store_wait();
}

ConcatAndCache::ConcatAndCache(const PagedCall& call, std::uint32_t row_bytes, std::uint64_t places,
                               std::uint64_t from, std::uint64_t to)
    : call_{call}, row_bytes_{row_bytes}, places_{places}, from_{from}, to_{to} {
  shape_.name = "concat and cache";
  shape_.roles = {{"threads", kCopyWarps}};
  shape_.registers_per_cta = kCopyWarps * 32 * 32;
  shape_.grid = static_cast<std::uint32_t>(call.batch * call.new_rows);
}

tile::Program ConcatAndCache::program(tile::Cta cta, std::uint32_t) const {
  co_await tile::load(Box{places_ + std::uint64_t{cta.index} * 4, 1, 4, 0});
  co_await tile::load_wait();
  co_await tile::chain(kLongDivision);
  co_await tile::load(Box{from_ + std::uint64_t{cta.index} * row_bytes_, 1, row_bytes_, 0});
  co_await tile::load_wait();
  co_await tile::store(Box{to_ + row_of(call_, cta.index) * row_bytes_, 1, row_bytes_, 0});
}

}  // namespace tessera::kernels
