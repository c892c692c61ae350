#include "kernels/gemm/gemm_hopper.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace tessera::kernels {

using tile::Box;
using tile::Program;

namespace {

constexpr std::uint32_t kWarpgroupRows = 64;  // of one wgmma
constexpr std::uint32_t kMostConsumers = 3;
constexpr std::uint32_t kEpilogueColumns = 64;  // staged through shared memory at a time

std::uint32_t ceil_div(std::int64_t a, std::int64_t b) { return static_cast<std::uint32_t>((a + b - 1) / b); }

}  // namespace

GemmHopper::GemmHopper(const models::Gemm& gemm, const GemmTiling& tiling, const GpuSpec& gpu,
                       const Addresses& addresses)
    : gemm_{gemm},
      tiling_{tiling},
      rows_{tiling.transposed ? gemm.n : gemm.m},
      cols_{tiling.transposed ? gemm.m : gemm.n},
      x_{addresses.operands.at(tiling.transposed ? 1 : 0)},
      y_{addresses.operands.at(tiling.transposed ? 0 : 1)},
      out_{tiling.split_k > 1 ? addresses.workspace : addresses.operands.at(2)},
      element_bytes_{static_cast<std::uint32_t>(models::bytes_of(gemm.dtype))},
      out_bytes_{tiling.split_k > 1 ? 4U : element_bytes_},
      k_steps_{ceil_div(gemm.k, tiling.tile_k)} {
  // Up to three warpgroups of 64 rows; 256 rows are two of 128.
  consumers_ = tiling.tile_m / kWarpgroupRows <= kMostConsumers ? tiling.tile_m / kWarpgroupRows : 2;
  rows_per_consumer_ = tiling.tile_m / consumers_;
  order_.rows = ceil_div(rows_, std::int64_t{tiling.tile_m} * tiling.cluster);
  order_.cols = ceil_div(cols_, std::int64_t{tiling.tile_n} * tiling.cluster_cols);
  std::uint32_t clusters = 0;
  for (const int sms : gpu.gpc_sms) clusters += static_cast<std::uint32_t>(sms) / tiling.cluster_ctas();
  // A band such that the tiles running at once cover about as many rows as columns: the least traffic.
  const double tile_rows = static_cast<double>(tiling.tile_m) * tiling.cluster,
               tile_cols = static_cast<double>(tiling.tile_n) * tiling.cluster_cols;
  order_.band =
      std::max(1U, static_cast<std::uint32_t>(std::lround(std::sqrt(clusters * tile_cols / tile_rows))));
  shape_.name = fmt::format("gemm {}x{}x{}{} cluster {}x{} stages {} split-k {}", tiling.tile_m,
                            tiling.tile_n, tiling.tile_k, tiling.transposed ? " transposed" : "",
                            tiling.cluster, tiling.cluster_cols, tiling.stages, tiling.split_k);
  shape_.grid = std::min(units(), clusters) * tiling.cluster_ctas();
  shape_.cluster = tiling.cluster_ctas();
  shape_.roles.push_back({"producer", 4});
  for (std::uint32_t c = 0; c < consumers_; ++c) shape_.roles.push_back({fmt::format("consumer{}", c), 4});
  shape_.registers_per_cta = gpu.sm.registers;  // accumulators: one CTA per SM
  shape_.shared_bytes =
      std::int64_t{tiling.stages} * (tiling.tile_m + tiling.tile_n) * tiling.tile_k * element_bytes_ +
      std::int64_t{consumers_} * 2 * kWarpgroupRows * std::min(kEpilogueColumns, tiling.tile_n) * 2;
  const int stages = static_cast<int>(tiling.stages);
  shape_.barriers.reserve(2 * tiling.stages);
  for (int s = 0; s < stages; ++s) shape_.barriers.push_back({"full", 1, s});
  // Whoever loads for others waits for them: its row of the cluster and its column.
  for (int s = 0; s < stages; ++s)
    shape_.barriers.push_back({"empty", consumers_ * (tiling.cluster + tiling.cluster_cols - 1), s});
  for (std::uint32_t piece = 0; piece < tiling.split_k; ++piece) {
    shape_.trips +=
        std::uint64_t{order_.count()} * tiling.cluster_ctas() * alike(work(piece, 0), tiling.stages);
  }
  shape_.even_trips = shape_.trips * (units() / clusters * clusters) / units();
  shape_.prologue_cycles = 400;  // tensor-map prefetch, mbarrier initialisation, setmaxnreg
}

tile::Outline GemmHopper::outline() const {
  const std::uint32_t share = ceil_div(k_steps_, tiling_.split_k),
                      last = k_steps_ - std::min(k_steps_, share * (tiling_.split_k - 1));
  tile::Outline o{.in_turn = true};
  o.pieces.push_back({units() - (last == share ? 0 : order_.count()), share});
  if (last != share) o.pieces.push_back({order_.count(), last});
  o.key = fmt::format("hopper gemm {} {} {} {} {} {} {} {} {} {}", tiling_.tile_m, tiling_.tile_n,
                      tiling_.cluster, tiling_.cluster_cols, tiling_.stages, tiling_.transposed,
                      std::min<std::int64_t>(rows_, tiling_.tile_m),
                      std::min<std::int64_t>(cols_, tiling_.tile_n), element_bytes_, out_bytes_);
  const auto depth = static_cast<std::uint64_t>(gemm_.k) * element_bytes_;
  const auto rows = static_cast<std::uint64_t>(rows_), cols = static_cast<std::uint64_t>(cols_);
  o.load_bytes = depth * (rows * order_.cols + cols * order_.rows);
  o.store_bytes = rows * cols * tiling_.split_k * out_bytes_;
  o.reread_bytes = cols * depth;
  o.rereads = ceil_div(order_.rows, order_.band);
  return o;
}

std::unique_ptr<tile::Kernel> GemmHopper::excerpt(std::uint32_t, std::uint32_t pieces,
                                                  std::uint32_t trips) const {
  auto e = std::make_unique<GemmHopper>(*this);
  const auto full = [&](std::int64_t extent, std::uint32_t width) {
    return std::min<std::int64_t>(extent, width);
  };
  // The pieces lie one after another in a direction that has whole tiles.
  const bool clustered = tiling_.cluster_ctas() > 1, down = clustered || rows_ >= tiling_.tile_m;
  const std::int64_t tile_rows = down ? std::int64_t{tiling_.tile_m} * tiling_.cluster : rows_;
  e->tiling_.split_k = 1;
  e->k_steps_ = trips;
  e->gemm_.k = std::int64_t{trips} * tiling_.tile_k;
  e->rows_ = down ? tile_rows * pieces : tile_rows;
  // The CTAs of a cluster load equal slices.
  e->cols_ = (clustered ? std::int64_t{tiling_.tile_n} * tiling_.cluster_cols : full(cols_, tiling_.tile_n)) *
             (down ? 1 : pieces);
  e->order_ = {.rows = down ? pieces : 1, .cols = down ? 1 : pieces, .band = 1};
  e->gemm_.m = tiling_.transposed ? e->cols_ : e->rows_;
  e->gemm_.n = tiling_.transposed ? e->rows_ : e->cols_;
  e->shape_.grid = tiling_.cluster_ctas();
  return e;
}

GemmHopper::Work GemmHopper::work(std::uint32_t unit, std::uint32_t rank) const {
  const TileOrder::Tile t = order_.at(unit / tiling_.split_k);
  Work w{};
  w.piece = unit % tiling_.split_k;
  w.row = (t.row * tiling_.cluster + rank % tiling_.cluster) * tiling_.tile_m;
  w.col = (t.col * tiling_.cluster_cols + rank / tiling_.cluster) * tiling_.tile_n;
  const auto rows = static_cast<std::uint32_t>(rows_), cols = static_cast<std::uint32_t>(cols_);
  w.rows = w.row < rows ? std::min(tiling_.tile_m, rows - w.row) : 0;
  w.cols = w.col < cols ? std::min(tiling_.tile_n, cols - w.col) : 0;
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
  const std::uint32_t size = tiling_.cluster_ctas(), clusters = shape_.grid / size;
  const std::uint32_t place_row = cta.rank % tiling_.cluster, place_col = cta.rank / tiling_.cluster;
  // Of the tiles that it shares, this CTA loads one slice for all.
  const std::uint32_t x_slice = tiling_.tile_m / tiling_.cluster_cols,
                      y_slice = tiling_.tile_n / tiling_.cluster;
  std::uint32_t x_sharers = 0, y_sharers = 0;  // masks of ranks; 0: no multicast
  if (tiling_.cluster_cols > 1) {
    for (std::uint32_t c = 0; c < tiling_.cluster_cols; ++c)
      x_sharers |= 1U << (c * tiling_.cluster + place_row);
  }
  if (tiling_.cluster > 1) y_sharers = ((1U << tiling_.cluster) - 1U) << (place_col * tiling_.cluster);
  std::uint32_t stage = 0, phase = 0;
  if (size > 1) co_await tile::cluster_sync();
  for (std::uint32_t unit = cta.index / size; unit < units(); unit += clusters) {
    const Work w = work(unit, cta.rank);
    if (co_await tile::item(alike(w, tiling_.stages)) != 0) continue;
    for (std::uint32_t i = 0; i < w.steps; ++i) {
      if (const std::uint32_t n = alike(w, i); n > 0) i += static_cast<std::uint32_t>(co_await tile::trip(n));
      const std::uint32_t step = w.first_step + i;
      const std::uint64_t k_offset = std::uint64_t{step} * tiling_.tile_k * element_bytes_;
      const auto depth_bytes = static_cast<std::uint32_t>(
          std::min<std::int64_t>(tiling_.tile_k, gemm_.k - std::int64_t{step} * tiling_.tile_k) *
          element_bytes_);
      co_await tile::wait(empty(stage), phase ^ 1U);
      co_await tile::expect(full(stage), step_bytes(w, step));
      if (const std::uint32_t first = place_col * x_slice; first < w.rows) {
        const Box box{x_ + (w.row + first) * pitch + k_offset, std::min(x_slice, w.rows - first), depth_bytes,
                      pitch};
        co_await tile::tma_load_promoted(box, full(stage), static_cast<std::uint16_t>(x_sharers));
      }
      if (const std::uint32_t first = place_row * y_slice; first < w.cols) {
        const Box box{y_ + (w.col + first) * pitch + k_offset, std::min(y_slice, w.cols - first), depth_bytes,
                      pitch};
        co_await tile::tma_load_promoted(box, full(stage), static_cast<std::uint16_t>(y_sharers));
      }
      if (++stage == tiling_.stages) {
        stage = 0;
        phase ^= 1U;
      }
    }
  }
  // No CTA may leave while another can still multicast into it or arrive on its barriers.
  if (size > 1) co_await tile::cluster_sync();
}

Program GemmHopper::consumer(tile::Cta cta, std::uint32_t index) const {
  const std::uint64_t out_pitch = static_cast<std::uint64_t>(gemm_.n) * out_bytes_;
  const std::uint32_t size = tiling_.cluster_ctas(), clusters = shape_.grid / size;
  std::uint32_t stage = 0, phase = 0;
  if (size > 1) co_await tile::cluster_sync();
  for (std::uint32_t unit = cta.index / size; unit < units(); unit += clusters) {
    const Work w = work(unit, cta.rank);
    if (co_await tile::item(alike(w, tiling_.stages)) != 0) continue;
    for (std::uint32_t i = 0; i < w.steps; ++i) {
      if (const std::uint32_t n = alike(w, i); n > 0) i += static_cast<std::uint32_t>(co_await tile::trip(n));
      co_await tile::wait(full(stage), phase);
      for (std::uint32_t row = 0; row < rows_per_consumer_; row += kWarpgroupRows)
        co_await tile::wgmma(kWarpgroupRows, tiling_.tile_n, tiling_.tile_k);
      // A step is waited for before the next one: where one warpgroup works alone, each k-step of an H200
      // takes some 80 cycles more than its products, whatever the width of the tile.
      co_await tile::wgmma_wait(0);
      for (std::uint32_t r = 0; r < size; ++r) {
        if (r % tiling_.cluster == cta.rank % tiling_.cluster ||
            r / tiling_.cluster == cta.rank / tiling_.cluster)
          co_await tile::arrive_remote(empty(stage), static_cast<std::uint8_t>(r));
      }
      if (++stage == tiling_.stages) {
        stage = 0;
        phase ^= 1U;
      }
    }

    for (std::uint32_t r = 0; r < rows_per_consumer_; r += kWarpgroupRows) {
      const std::uint32_t first_row = index * rows_per_consumer_ + r;
      if (first_row >= w.rows) break;
      const std::uint32_t rows = std::min(kWarpgroupRows, w.rows - first_row);
      const std::uint64_t piece_out = out_ + w.piece * static_cast<std::uint64_t>(gemm_.m) * out_pitch;
      for (std::uint32_t col = 0; col < w.cols; col += kEpilogueColumns) {
        const std::uint32_t cols = std::min(kEpilogueColumns, w.cols - col);
        if (out_bytes_ < 4) co_await tile::compute({.convert = std::uint64_t{kWarpgroupRows} * cols / 2});
        co_await tile::store_wait(1);  // there are two staging buffers
        co_await tile::shared_store(std::uint64_t{kWarpgroupRows} * cols * out_bytes_);
        const std::uint64_t row_at = w.row + first_row, col_at = w.col + col;
        if (tiling_.transposed) {
          co_await tile::tma_store(
              Box{piece_out + col_at * out_pitch + row_at * out_bytes_, cols, rows * out_bytes_, out_pitch});
        } else {
          co_await tile::tma_store(
              Box{piece_out + row_at * out_pitch + col_at * out_bytes_, rows, cols * out_bytes_, out_pitch});
        }
      }
    }
    // The next tile waits until the staging buffers are free again: GEMMs of many tiles and a short k take
    // the time of the products and that of the stores, one after the other.
    co_await tile::store_wait();
  }
  if (size > 1) co_await tile::cluster_sync();
}

}  // namespace tessera::kernels
