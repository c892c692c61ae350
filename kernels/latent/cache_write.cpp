#include "kernels/latent/cache_write.hpp"

#include <algorithm>

namespace tessera::kernels {

using tile::Box;

namespace {
constexpr std::uint32_t kBlockElements = 128;
constexpr std::uint32_t kWarps = 4;  // Triton's default
}  // namespace

LatentCacheWrite::LatentCacheWrite(const PagedCall& call, std::uint32_t row_bytes, std::uint64_t places,
                                   std::uint64_t from, std::uint64_t to)
    : call_{call}, row_bytes_{row_bytes}, places_{places}, from_{from}, to_{to} {
  const auto block = static_cast<std::uint32_t>(kBlockElements * call.element_bytes);
  blocks_ = (row_bytes + block - 1) / block;
  shape_.name = "latent cache write";
  shape_.roles = {{"threads", kWarps}};
  shape_.registers_per_cta = kWarps * 32 * 32;
  shape_.grid = static_cast<std::uint32_t>(call.batch * call.new_rows) * blocks_;
  shape_.launched_beside = true;
}

tile::Program LatentCacheWrite::program(tile::Cta cta, std::uint32_t) const {
  const std::uint64_t row = cta.index / blocks_, block = cta.index % blocks_;
  co_await tile::load(Box{places_ + row * 4, 1, 4, 0});
  co_await tile::load_wait();
  const auto new_rows = static_cast<std::uint64_t>(call_.new_rows),
             context = static_cast<std::uint64_t>(call_.context);
  const std::uint64_t first = block * kBlockElements * static_cast<std::uint64_t>(call_.element_bytes);
  const auto bytes = static_cast<std::uint32_t>(std::min<std::uint64_t>(
      kBlockElements * static_cast<std::uint64_t>(call_.element_bytes), row_bytes_ - first));
  co_await tile::load(Box{from_ + row * row_bytes_ + first, 1, bytes, 0});
  co_await tile::load_wait();
  const std::uint64_t to = row / new_rows * context + context - new_rows + row % new_rows;
  co_await tile::store(Box{to_ + to * row_bytes_ + first, 1, bytes, 0});
}

}  // namespace tessera::kernels
