#include "kernels/gemm/gemm_ampere.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace tessera::kernels {

using tile::Box;

namespace {
constexpr std::uint32_t kGroups = 2;
constexpr std::uint32_t kBlock = 16;  // k of one mma.sync
std::uint32_t ceil_div(std::int64_t a, std::int64_t b) { return static_cast<std::uint32_t>((a + b - 1) / b); }
}  // namespace

GemmAmpere::GemmAmpere(const models::Gemm& gemm, const GemmTiling& tiling, const GpuSpec& gpu,
                       const Addresses& addresses)
    : gemm_{gemm},
      tiling_{tiling},
      a_{addresses.operands.at(0)},
      w_{addresses.operands.at(1)},
      out_{tiling.split_k > 1 ? addresses.workspace : addresses.operands.at(2)},
      element_bytes_{static_cast<std::uint32_t>(models::bytes_of(gemm.dtype))},
      out_bytes_{tiling.split_k > 1 ? 4U : element_bytes_},
      k_steps_{ceil_div(gemm.k, tiling.tile_k)} {
  order_.rows = ceil_div(gemm.m, tiling.tile_m);
  order_.cols = ceil_div(gemm.n, tiling.tile_n);
  shape_.name = fmt::format("gemm {}x{}x{} mma stages {} split-k {}", tiling_.tile_m, tiling_.tile_n,
                            tiling_.tile_k, tiling_.stages, tiling_.split_k);
  shape_.grid = order_.count() * tiling_.split_k;
  shape_.roles = {{"warps0-3", 4}, {"warps4-7", 4}};
  shape_.registers_per_cta =
      std::min<std::int64_t>(gpu.sm.registers, 256 * (32 + tiling_.tile_m * tiling_.tile_n / 256));
  shape_.shared_bytes =
      std::int64_t{tiling_.stages} * (tiling_.tile_m + tiling_.tile_n) * tiling_.tile_k * element_bytes_;
  for (std::uint32_t piece = 0; piece < tiling_.split_k; ++piece) {
    const std::uint32_t share = (k_steps_ + tiling_.split_k - 1) / tiling_.split_k;
    const std::uint32_t steps = std::min(share, k_steps_ - std::min(k_steps_, piece * share));
    shape_.trips += std::uint64_t{order_.count()} * (steps > tiling_.stages ? steps - tiling_.stages : 0);
  }
  shape_.even_trips = shape_.trips;
  shape_.prologue_cycles = 200;
}

std::uint64_t GemmAmpere::fragment_rows(const GemmTiling& tiling) {
  const std::uint32_t rows = tiling.tile_m / kGroups, down = std::max(1U, rows / 64), across = 4 / down;
  return std::uint64_t{kGroups} * (rows * across + tiling.tile_n * down);
}

tile::Outline GemmAmpere::outline() const {
  const std::uint32_t share = ceil_div(k_steps_, tiling_.split_k),
                      last = k_steps_ - std::min(k_steps_, share * (tiling_.split_k - 1));
  tile::Outline o;
  o.pieces.push_back({shape_.grid - (last == share ? 0 : order_.count()), share});
  if (last != share) o.pieces.push_back({order_.count(), last});
  const auto m = static_cast<std::uint64_t>(gemm_.m), n = static_cast<std::uint64_t>(gemm_.n),
             depth = static_cast<std::uint64_t>(gemm_.k) * element_bytes_;
  o.key = fmt::format("ampere gemm {} {} {} {} {} {} {}", tiling_.tile_m, tiling_.tile_n, tiling_.stages,
                      std::min<std::uint64_t>(m, tiling_.tile_m), std::min<std::uint64_t>(n, tiling_.tile_n),
                      element_bytes_, out_bytes_);
  o.load_bytes = depth * (m * order_.cols + n * order_.rows);
  o.store_bytes = m * n * tiling_.split_k * out_bytes_;
  o.reread_bytes = n * depth;
  o.rereads = ceil_div(order_.rows, order_.band);
  return o;
}

std::unique_ptr<tile::Kernel> GemmAmpere::excerpt(std::uint32_t ctas, std::uint32_t,
                                                  std::uint32_t trips) const {
  auto e = std::make_unique<GemmAmpere>(*this);
  e->tiling_.split_k = 1;
  e->k_steps_ = trips;
  e->gemm_.k = std::int64_t{trips} * tiling_.tile_k;
  const bool down = gemm_.m >= tiling_.tile_m;
  e->gemm_.m = down ? std::int64_t{tiling_.tile_m} * ctas : gemm_.m;
  e->gemm_.n = std::min<std::int64_t>(gemm_.n, tiling_.tile_n) * (down ? 1 : ctas);
  e->order_ = {.rows = down ? ctas : 1, .cols = down ? 1 : ctas, .band = 1};
  e->shape_.grid = ctas;
  return e;
}

tile::Program GemmAmpere::program(tile::Cta cta, std::uint32_t role) const {
  const std::uint64_t pitch = static_cast<std::uint64_t>(gemm_.k) * element_bytes_;
  const std::uint32_t piece = cta.index % tiling_.split_k;
  const TileOrder::Tile t = order_.at(cta.index / tiling_.split_k);
  const std::uint32_t row = t.row * tiling_.tile_m, col = t.col * tiling_.tile_n;
  const std::uint32_t rows = std::min(tiling_.tile_m, static_cast<std::uint32_t>(gemm_.m) - row);
  const std::uint32_t cols = std::min(tiling_.tile_n, static_cast<std::uint32_t>(gemm_.n) - col);
  const std::uint32_t share = (k_steps_ + tiling_.split_k - 1) / tiling_.split_k;
  const std::uint32_t first_step = std::min(k_steps_, piece * share);
  const std::uint32_t steps = std::min(share, k_steps_ - first_step);
  // Each group copies half of the rows of both tiles.
  const std::uint32_t a_first = role * rows / kGroups, a_rows = (role + 1) * rows / kGroups - a_first;
  const std::uint32_t w_first = role * cols / kGroups, w_rows = (role + 1) * cols / kGroups - w_first;

  const std::uint32_t group_rows = tiling_.tile_m / kGroups, blocks = tiling_.tile_k / kBlock;
  const std::uint64_t block_bytes = fragment_rows(tiling_) / kGroups * kBlock * element_bytes_;
  const std::uint32_t ahead = tiling_.stages - 1;
  if (co_await tile::item(steps > ahead + 1 ? steps - 1 - ahead : 0) != 0) co_return;
  const std::uint32_t loads = (a_rows > 0 ? 1U : 0U) + (w_rows > 0 ? 1U : 0U);
  for (std::uint32_t i = 0; i < steps + ahead; ++i) {
    // With the ring full, until the last step, which may be short, is to be loaded.
    if (i >= ahead && i + 1 < steps) i += static_cast<std::uint32_t>(co_await tile::trip(steps - 1 - i));
    if (i >= ahead) {
      // Fragments are loaded one block of k ahead of the products: when the next step's first are loaded,
      // this step's are all in registers, and its last block is still to be multiplied.
      if (i > ahead)
        co_await tile::mma(group_rows, tiling_.tile_n, tiling_.tile_k - kBlock, block_bytes * (blocks - 1));
      co_await tile::load_wait((std::min(i, steps) - (i - ahead) - 1) * loads);
      co_await tile::named_sync(1, kGroups);
    }
    // Into the stage that all have read.
    if (i < steps) {
      const std::uint64_t step = first_step + i;
      const std::uint64_t k_offset = step * tiling_.tile_k * element_bytes_;
      const auto depth_bytes = static_cast<std::uint32_t>(
          std::min<std::int64_t>(tiling_.tile_k, gemm_.k - static_cast<std::int64_t>(step) * tiling_.tile_k) *
          element_bytes_);
      if (a_rows > 0)
        co_await tile::load(Box{a_ + (row + a_first) * pitch + k_offset, a_rows, depth_bytes, pitch});
      if (w_rows > 0)
        co_await tile::load(Box{w_ + (col + w_first) * pitch + k_offset, w_rows, depth_bytes, pitch});
    }
    if (i == ahead)
      co_await tile::shared_load(block_bytes);
    else if (i > ahead)
      co_await tile::mma(group_rows, tiling_.tile_n, kBlock, block_bytes);
  }
  if (steps > 0) co_await tile::mma(group_rows, tiling_.tile_n, tiling_.tile_k, block_bytes * (blocks - 1));
  if (out_bytes_ < 4) {
    co_await tile::compute({.convert = std::uint64_t{tiling_.tile_m} / kGroups * tiling_.tile_n / 2});
  }
  if (a_rows == 0) co_return;
  const std::uint64_t out_pitch = static_cast<std::uint64_t>(gemm_.n) * out_bytes_;
  co_await tile::store(Box{out_ + piece * static_cast<std::uint64_t>(gemm_.m) * out_pitch +
                               (row + a_first) * out_pitch + std::uint64_t{col} * out_bytes_,
                           a_rows, cols * out_bytes_, out_pitch});
}

}  // namespace tessera::kernels
