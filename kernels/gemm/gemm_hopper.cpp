#include "kernels/gemm/gemm_hopper.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace tessera::kernels {

using tile::Box;
using tile::Program;

namespace {

constexpr std::uint32_t kWarpgroupRows = 64;
constexpr std::uint32_t kEpilogueColumns = 64;  // staged through shared memory at a time

std::uint32_t ceil_div(std::int64_t a, std::int64_t b) { return static_cast<std::uint32_t>((a + b - 1) / b); }

}  // namespace

GemmHopper::GemmHopper(const models::Gemm& gemm, const GemmTiling& tiling, const GpuSpec& gpu,
                       const Addresses& addresses)
    : gemm_{gemm},
      tiling_{tiling},
      a_{addresses.operands.at(0)},
      w_{addresses.operands.at(1)},
      out_{tiling.split_k > 1 ? addresses.workspace : addresses.operands.at(2)},
      element_bytes_{static_cast<std::uint32_t>(models::bytes_of(gemm.dtype))},
      out_bytes_{tiling.split_k > 1 ? 4U : element_bytes_},
      k_steps_{ceil_div(gemm.k, tiling.tile_k)} {
  order_.rows = ceil_div(gemm.m, std::int64_t{tiling.tile_m} * tiling.cluster);
  order_.cols = ceil_div(gemm.n, tiling.tile_n);
  std::uint32_t clusters = 0;
  for (const int sms : gpu.gpc_sms) clusters += static_cast<std::uint32_t>(sms) / tiling.cluster;
  // A band such that the tiles running at once cover about as many rows as columns: the least traffic.
  const double tile_rows = static_cast<double>(tiling.tile_m) * tiling.cluster;
  order_.band =
      std::max(1U, static_cast<std::uint32_t>(std::lround(std::sqrt(clusters * tiling.tile_n / tile_rows))));
  const std::uint32_t consumers = tiling.tile_m / kWarpgroupRows;

  shape_.name = fmt::format("gemm {}x{}x{} cluster {} stages {} split-k {}", tiling.tile_m, tiling.tile_n,
                            tiling.tile_k, tiling.cluster, tiling.stages, tiling.split_k);
  shape_.grid = std::min(units(), clusters) * tiling.cluster;
  shape_.cluster = tiling.cluster;
  shape_.roles.push_back({"producer", 4});
  for (std::uint32_t c = 0; c < consumers; ++c) shape_.roles.push_back({fmt::format("consumer{}", c), 4});
  shape_.registers_per_cta = gpu.sm.registers;  // accumulators: one CTA per SM
  shape_.shared_bytes =
      std::int64_t{tiling.stages} * (tiling.tile_m + tiling.tile_n) * tiling.tile_k * element_bytes_ +
      std::int64_t{consumers} * 2 * kWarpgroupRows * kEpilogueColumns * 2;
  for (std::uint32_t s = 0; s < tiling.stages; ++s)
    shape_.barriers.push_back({fmt::format("full[{}]", s), 1});
  for (std::uint32_t s = 0; s < tiling.stages; ++s) {
    shape_.barriers.push_back({fmt::format("empty[{}]", s), consumers * tiling.cluster});
  }
  shape_.prologue_cycles = 400;  // tensor-map prefetch, mbarrier initialisation, setmaxnreg
}

GemmHopper::Work GemmHopper::work(std::uint32_t unit, std::uint32_t rank) const {
  const TileOrder::Tile t = order_.at(unit / tiling_.split_k);
  Work w{};
  w.piece = unit % tiling_.split_k;
  w.row = (t.row * tiling_.cluster + rank) * tiling_.tile_m;
  w.col = t.col * tiling_.tile_n;
  const auto m = static_cast<std::uint32_t>(gemm_.m), n = static_cast<std::uint32_t>(gemm_.n);
  w.rows = w.row < m ? std::min(tiling_.tile_m, m - w.row) : 0;
  w.cols = std::min(tiling_.tile_n, n - w.col);
  const std::uint32_t share = (k_steps_ + tiling_.split_k - 1) / tiling_.split_k;
  w.first_step = std::min(k_steps_, w.piece * share);
  w.steps = std::min(share, k_steps_ - w.first_step);
  return w;
}

std::uint64_t GemmHopper::step_bytes(const Work& w, std::uint32_t step) const {
  const auto depth = std::min<std::int64_t>(tiling_.tile_k, gemm_.k - std::int64_t{step} * tiling_.tile_k);
  return (std::uint64_t{w.rows} + w.cols) * static_cast<std::uint64_t>(depth) * element_bytes_;
}

Program GemmHopper::program(tile::Cta cta, std::uint32_t role) const {
  return role == 0 ? producer(cta) : consumer(cta, role - 1);
}

Program GemmHopper::producer(tile::Cta cta) const {
  const std::uint64_t pitch = static_cast<std::uint64_t>(gemm_.k) * element_bytes_;
  const std::uint32_t clusters = shape_.grid / tiling_.cluster;
  const auto everyone = static_cast<std::uint16_t>(tiling_.cluster > 1 ? (1U << tiling_.cluster) - 1U : 0U);
  const std::uint32_t slice = tiling_.tile_n / tiling_.cluster;  // of the W tile that this CTA loads for all
  std::uint32_t stage = 0, phase = 0;
  if (tiling_.cluster > 1) co_await tile::cluster_sync();
  for (std::uint32_t unit = cta.index / tiling_.cluster; unit < units(); unit += clusters) {
    const Work w = work(unit, cta.rank);
    for (std::uint32_t i = 0; i < w.steps; ++i) {
      const std::uint32_t step = w.first_step + i;
      const std::uint64_t k_offset = std::uint64_t{step} * tiling_.tile_k * element_bytes_;
      const auto depth_bytes = static_cast<std::uint32_t>(
          std::min<std::int64_t>(tiling_.tile_k, gemm_.k - std::int64_t{step} * tiling_.tile_k) *
          element_bytes_);
      co_await tile::wait(empty(stage), phase ^ 1U);
      co_await tile::expect(full(stage), step_bytes(w, step));
      if (w.rows > 0) {
        co_await tile::tma_load_promoted(Box{a_ + w.row * pitch + k_offset, w.rows, depth_bytes, pitch}, full(stage));
      }
      const std::uint32_t first = cta.rank * slice;
      if (first < w.cols) {
        const Box box{w_ + (w.col + first) * pitch + k_offset, std::min(slice, w.cols - first), depth_bytes,
                      pitch};
        co_await tile::tma_load_promoted(box, full(stage), everyone);
      }
      if (++stage == tiling_.stages) {
        stage = 0;
        phase ^= 1U;
      }
    }
  }
  // No CTA may leave while another can still multicast into it or arrive on its barriers.
  if (tiling_.cluster > 1) co_await tile::cluster_sync();
}

Program GemmHopper::consumer(tile::Cta cta, std::uint32_t index) const {
  const std::uint64_t out_pitch = static_cast<std::uint64_t>(gemm_.n) * out_bytes_;
  const std::uint32_t clusters = shape_.grid / tiling_.cluster;
  std::uint32_t stage = 0, phase = 0;
  if (tiling_.cluster > 1) co_await tile::cluster_sync();
  for (std::uint32_t unit = cta.index / tiling_.cluster; unit < units(); unit += clusters) {
    const Work w = work(unit, cta.rank);
    std::uint32_t previous = 0;
    for (std::uint32_t i = 0; i < w.steps; ++i) {
      co_await tile::wait(full(stage), phase);
      co_await tile::wgmma(kWarpgroupRows, tiling_.tile_n, tiling_.tile_k);
      if (i > 0) {  // the previous product has read its stage
        co_await tile::wgmma_wait(1);
        for (std::uint32_t r = 0; r < tiling_.cluster; ++r) {
          co_await tile::arrive_remote(empty(previous), static_cast<std::uint8_t>(r));
        }
      }
      previous = stage;
      if (++stage == tiling_.stages) {
        stage = 0;
        phase ^= 1U;
      }
    }
    co_await tile::wgmma_wait(0);
    if (w.steps > 0) {
      for (std::uint32_t r = 0; r < tiling_.cluster; ++r) {
        co_await tile::arrive_remote(empty(previous), static_cast<std::uint8_t>(r));
      }
    }

    const std::uint32_t first_row = index * kWarpgroupRows;
    if (first_row >= w.rows) continue;
    const std::uint32_t rows = std::min(kWarpgroupRows, w.rows - first_row);
    const std::uint64_t tile_out = out_ + w.piece * static_cast<std::uint64_t>(gemm_.m) * out_pitch +
                                   (w.row + first_row) * out_pitch + std::uint64_t{w.col} * out_bytes_;
    for (std::uint32_t col = 0; col < w.cols; col += kEpilogueColumns) {
      const std::uint32_t cols = std::min(kEpilogueColumns, w.cols - col);
      if (out_bytes_ < 4) co_await tile::compute({.convert = std::uint64_t{kWarpgroupRows} * cols / 2});
      co_await tile::store_wait();
      co_await tile::shared_store(std::uint64_t{kWarpgroupRows} * cols * out_bytes_);
      co_await tile::tma_store(
          Box{tile_out + std::uint64_t{col} * out_bytes_, rows, cols * out_bytes_, out_pitch});
    }
  }
  co_await tile::store_wait();
  if (tiling_.cluster > 1) co_await tile::cluster_sync();
}

}  // namespace tessera::kernels
