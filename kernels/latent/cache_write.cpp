#include "kernels/latent/cache_write.hpp"

#include <algorithm>

namespace tessera::kernels {

using tile::Box;

namespace {
constexpr std::int64_t kBulkRows = 768;
constexpr std::uint32_t kTritonWarps = 4, kBulkWarps = 8;
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
  const auto new_rows = static_cast<std::uint64_t>(call_.new_rows),
             context = static_cast<std::uint64_t>(call_.context);
  for (std::uint64_t row = first; row < first + rows; ++row) {
    const std::uint64_t to = row / new_rows * context + context - new_rows + row % new_rows;
    const Box box{to_ + to * row_bytes_, 1, row_bytes_, 0};
    if (bulk)
      co_await tile::tma_store(box);
    else
      co_await tile::store(box);
  }
  if (bulk) co_await tile::store_wait();
}

}  // namespace tessera::kernels
