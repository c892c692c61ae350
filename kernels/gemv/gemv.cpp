#include "kernels/gemv/gemv.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace tessera::kernels {

using tile::Box;

namespace {
constexpr std::uint32_t kWarps = 8;
constexpr std::uint32_t kLoadBytes = 8192;  // per load: 32 B per thread
constexpr std::uint32_t kLoadsInFlight = 2;
constexpr std::uint32_t kCtasPerSm = 4;
}  // namespace

Gemv::Gemv(const models::Gemm& gemm, const GpuSpec& gpu, const Addresses& addresses)
    : gemm_{gemm},
      a_{addresses.operands.at(0)},
      w_{addresses.operands.at(1)},
      out_{addresses.operands.at(2)},
      element_bytes_{static_cast<std::uint32_t>(models::bytes_of(gemm.dtype))} {
  // As many columns per trip as still leave every CTA slot a trip.
  const auto slots = static_cast<std::int64_t>(gpu.sms()) * kCtasPerSm;
  columns_ = 8;
  while (columns_ > 1 && (gemm.n + columns_ - 1) / columns_ < slots) columns_ /= 2;
  chunk_ = static_cast<std::uint32_t>(std::min<std::int64_t>(gemm.k, kLoadBytes / columns_ / element_bytes_));
  trips_ = static_cast<std::uint32_t>((gemm.n + columns_ - 1) / columns_);
  shape_.name = fmt::format("gemv {} rows, {} columns per trip", gemm.m, columns_);
  shape_.roles = {{"threads", kWarps}};
  shape_.registers_per_cta = kWarps * 32 * 64;
  shape_.shared_bytes =
      std::min<std::int64_t>(gpu.sm.shared_bytes / kCtasPerSm - gpu.sm.shared_bytes_reserved_per_cta,
                             gemm.m * gemm.k * element_bytes_);
  shape_.grid = static_cast<std::uint32_t>(std::min<std::int64_t>(trips_, slots));
}

tile::Outline Gemv::outline() const {
  tile::Outline o{.key = fmt::format("gemv {} {} {} {}", gemm_.m, gemm_.k, columns_, element_bytes_)};
  if (const std::uint32_t more = trips_ % shape_.grid; more > 0)
    o.pieces.push_back({more, trips_ / shape_.grid + 1});
  o.pieces.push_back({shape_.grid - trips_ % shape_.grid, trips_ / shape_.grid});
  const auto m = static_cast<std::uint64_t>(gemm_.m), n = static_cast<std::uint64_t>(gemm_.n),
             k = static_cast<std::uint64_t>(gemm_.k);
  o.load_bytes = element_bytes_ * k * (m * shape_.grid + n);
  o.store_bytes = element_bytes_ * m * n;
  return o;
}

std::unique_ptr<tile::Kernel> Gemv::excerpt(std::uint32_t ctas, std::uint32_t, std::uint32_t trips) const {
  auto e = std::make_unique<Gemv>(*this);
  e->trips_ = trips * ctas;
  e->gemm_.n = std::int64_t{e->trips_} * columns_;
  e->shape_.grid = ctas;
  return e;
}

tile::Program Gemv::program(tile::Cta cta, std::uint32_t) const {
  const auto k = static_cast<std::uint64_t>(gemm_.k), m = static_cast<std::uint64_t>(gemm_.m);
  const std::uint64_t pitch = k * element_bytes_;
  const auto chunks = static_cast<std::uint32_t>((k + chunk_ - 1) / chunk_);
  // The activations, once, into shared memory.
  for (std::uint64_t row = 0; row < m; ++row) {
    for (std::uint64_t from = 0; from < pitch; from += 4 * kLoadBytes) {
      co_await tile::load(
          Box{a_ + row * pitch + from, 1,
              static_cast<std::uint32_t>(std::min<std::uint64_t>(4 * kLoadBytes, pitch - from)), 0});
    }
  }
  for (std::uint32_t trip = cta.index; trip < trips_; trip += shape_.grid) {
    const std::uint64_t column = std::uint64_t{trip} * columns_;
    const auto columns = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(columns_, static_cast<std::uint64_t>(gemm_.n) - column));
    for (std::uint32_t c = 0; c < chunks + kLoadsInFlight - 1; ++c) {
      if (c < chunks) {
        const std::uint64_t from = std::uint64_t{c} * chunk_;
        const auto elements = static_cast<std::uint32_t>(std::min<std::uint64_t>(chunk_, k - from));
        co_await tile::load(
            Box{w_ + column * pitch + from * element_bytes_, columns, elements * element_bytes_, pitch});
      }
      if (c + 1 < kLoadsInFlight) continue;
      co_await tile::load_wait(std::min(kLoadsInFlight - 1, chunks + kLoadsInFlight - 2 - c));
      const std::uint64_t weights = std::uint64_t{columns} * chunk_;
      if (m <= 4) {
        co_await tile::compute({.fma = weights * m, .integer = weights});
      } else {
        co_await tile::mma(16, std::max(columns, 8U), chunk_);
      }
    }
    co_await tile::compute(
        {.fma = columns * m * kWarps, .convert = columns * m, .shuffle = std::uint64_t{5} * 32 * kWarps});
    co_await tile::store(Box{out_ + column * element_bytes_, static_cast<std::uint32_t>(m),
                             columns * element_bytes_, static_cast<std::uint64_t>(gemm_.n) * element_bytes_});
  }
}

}  // namespace tessera::kernels
