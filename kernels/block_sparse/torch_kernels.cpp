#include "kernels/block_sparse/torch_kernels.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "kernels/attention_prefill/softmax_cost.hpp"

namespace tessera::kernels {

using tile::Box;

namespace {

constexpr std::uint32_t kMoveThreads = 128, kMoveCtasPerSm = 8;
// Of elementwise_kernel as many as fit, 2048 threads.
constexpr std::uint32_t kElementwiseCtasPerSm = 16;
// An unsigned division by a size known at run time: to float, reciprocal, back, and two corrections of a
// product and a difference each.
constexpr std::uint64_t kDivisionCycles = 3 * kMufuLatency + 6 * kAluLatency;

/// Grid-stride: `trips` over the CTAs that PyTorch launches at most, or that fit.
std::vector<tile::Pieces> grid_stride(std::uint64_t trips, const GpuSpec& gpu, std::uint32_t& stride,
                                      std::uint32_t ctas_per_sm = kMoveCtasPerSm) {
  const std::uint64_t ctas =
      std::min<std::uint64_t>(trips, static_cast<std::uint64_t>(gpu.sms()) * ctas_per_sm);
  stride = static_cast<std::uint32_t>(ctas);
  std::vector<tile::Pieces> pieces;
  if (const std::uint64_t more = trips % ctas; more > 0)
    pieces.push_back({more, static_cast<std::uint32_t>(trips / ctas + 1)});
  pieces.push_back({ctas - trips % ctas, static_cast<std::uint32_t>(trips / ctas)});
  return pieces;
}

}  // namespace

RowMoveKernel::RowMoveKernel(const RowMove& move, const GpuSpec& gpu) : move_{move} {
  shape_.name = move.name;
  shape_.roles = {{"threads", kMoveThreads / 32}};
  shape_.registers_per_cta = kMoveThreads * 32;
  between_read_ = move.between_read;
  between_written_ = move.between_written;
  const std::uint64_t bytes = std::uint64_t{kMoveThreads} * move.element_bytes;
  const std::uint64_t trips = (move.rows * move.row_bytes + bytes - 1) / bytes;
  set_work(grid_stride(trips, gpu, stride_), 1);
}

tile::Program RowMoveKernel::body(std::uint32_t cta, std::uint32_t trips) const {
  const std::uint64_t all = move_.rows * move_.row_bytes;
  const std::uint32_t bytes = kMoveThreads * move_.element_bytes;
  if (co_await tile::item(trips - 1) != 0) co_return;
  for (std::uint32_t i = 0; i < trips; ++i) {
    if (i + 1 < trips) i += static_cast<std::uint32_t>(co_await tile::trip(trips - 1 - i));
    const std::uint64_t at = (std::uint64_t{i} * stride_ + cta) * bytes;
    const auto length = static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes, all - std::min(all, at)));
    if (length == 0) break;
    const std::uint64_t row = at / move_.row_bytes;
    // Rows are taken in the order of the table, evenly: lists are sorted.
    const std::uint64_t indexed =
        (row * move_.table_rows / move_.rows) * move_.row_bytes + at % move_.row_bytes;
    const std::uint32_t rows = std::max(1U, length / move_.row_bytes);
    // A division by a size known at run time, twice: row and column, then the row's own place
    // (IndexToOffset), which nothing waits for.
    co_await tile::compute({.integer = std::uint64_t{kMoveThreads} * 40}, kDivisionCycles);
    co_await tile::load(Box{move_.indices + row * move_.index_bytes, 1, rows * move_.index_bytes, 0});
    co_await tile::load_wait();
    if (move_.add) {
      co_await tile::load(Box{move_.in + at, 1, length, 0});
      co_await tile::load_wait();
      // The atomic add in the L2 needs the line there: asked for, and not waited for.
      co_await tile::load(Box{move_.out + indexed, 1, length, 0});
      co_await tile::store(Box{move_.out + indexed, 1, length, 0});
    } else {
      co_await tile::load(Box{move_.in + indexed, 1, length, 0});
      co_await tile::load_wait();
      co_await tile::store(Box{move_.out + at, 1, length, 0});
    }
  }
  co_await tile::load_wait();
}

CastProductKernel::CastProductKernel(const CastProduct& product, const GpuSpec& gpu) : product_{product} {
  shape_.name = product.name;
  shape_.roles = {{"threads", kMoveThreads / 32}};
  shape_.registers_per_cta = kMoveThreads * 32;
  between_read_ = product.between_read;
  between_written_ = product.between_written;
  const std::uint64_t trips = (product.rows * product.width + kMoveThreads - 1) / kMoveThreads;
  set_work(grid_stride(trips, gpu, stride_, kElementwiseCtasPerSm), 1);
}

tile::Program CastProductKernel::body(std::uint32_t cta, std::uint32_t trips) const {
  const std::uint64_t all = product_.rows * product_.width;
  if (co_await tile::item(trips - 1) != 0) co_return;
  for (std::uint32_t i = 0; i < trips; ++i) {
    if (i + 1 < trips) i += static_cast<std::uint32_t>(co_await tile::trip(trips - 1 - i));
    const std::uint64_t at = (std::uint64_t{i} * stride_ + cta) * kMoveThreads;
    const auto n = static_cast<std::uint32_t>(std::min<std::uint64_t>(kMoveThreads, all - std::min(all, at)));
    if (n == 0) break;
    // Where the element lies in three arrays: two dimensions, a multiplication with the upper half, a shift,
    // a remainder and three sums each. Then a branch on the type for each array.
    co_await tile::compute({.integer = std::uint64_t{n} * 2 * 6 + std::uint64_t{n} * 3 * 4},
                           2 * 3 * kAluLatency);
    co_await tile::load(Box{product_.in + at * product_.element_bytes, 1, n * product_.element_bytes, 0});
    co_await tile::load_wait();
    co_await tile::load(Box{product_.factors + at / product_.width * 4, 1, 4, 0});
    co_await tile::load_wait();
    co_await tile::compute({.fma = n, .integer = n});
    co_await tile::store(Box{product_.out + at * 4, 1, n * 4, 0});
  }
}

std::uint32_t StridedTopK::passes() const {
  const std::uint32_t bits = std::min(32U, 9U + static_cast<std::uint32_t>(std::bit_width(slice - 1)));
  return (bits + 1) / 2 + 3;
}

StridedTopKKernel::StridedTopKKernel(const StridedTopK& topk, const GpuSpec&)
    : topk_{topk}, threads_{std::min(1024U, (topk.slice + 31) / 32 * 32)} {
  shape_.name = fmt::format("topk {} of {}, strided", topk.k, topk.slice);
  shape_.roles = {{"threads", threads_ / 32}};
  shape_.registers_per_cta = std::int64_t{threads_} * 40;
  shape_.shared_bytes = 256;
  between_read_ = topk.between_read;
  between_written_ = topk.between_written;
  set_work({{topk.slices, topk.passes()}}, 1);
}

tile::Program StridedTopKKernel::body(std::uint32_t cta, std::uint32_t trips) const {
  constexpr std::uint32_t kSector = 32;
  const std::uint64_t elements = topk_.slice;
  const std::uint64_t first = (topk_.in + std::uint64_t{cta} * 4) / kSector * kSector;
  if (co_await tile::item(trips - 1) != 0) co_return;
  for (std::uint32_t i = 0; i < trips; ++i) {
    if (i + 1 < trips) i += static_cast<std::uint32_t>(co_await tile::trip(trips - 1 - i));
    // From the L2 every time: lines that lie a large power of two apart share a set of the L1.
    co_await tile::load(Box{first, topk_.slice, kSector, topk_.pitch});
    co_await tile::load_wait();
    // Four bins: a ballot and a count each; one atomic for each warp and bin; two barriers.
    co_await tile::compute({.integer = elements * 4 * 4});
    co_await tile::shared_store(std::uint64_t{threads_ / 32} * 4 * 32);
    co_await tile::chain(2 * 20 + 30 + 4 * 24);
  }
  // What was found: a value and an index each, k rows apart.
  const std::uint64_t pitch = topk_.slices * 4;
  co_await tile::store(Box{topk_.values + std::uint64_t{cta} * 4, topk_.k, 4, pitch});
  co_await tile::store(Box{topk_.indices + std::uint64_t{cta} * 8, topk_.k, 8, 2 * pitch});
}

MaskScatterKernel::MaskScatterKernel(const MaskScatter& scatter, const GpuSpec& gpu) : scatter_{scatter} {
  shape_.name = "scatter";
  shape_.roles = {{"threads", kMoveThreads / 32}};
  shape_.registers_per_cta = kMoveThreads * 32;
  between_read_ = scatter.between_read;
  between_written_ = scatter.between_written;
  set_work(grid_stride((scatter.indices + kMoveThreads - 1) / kMoveThreads, gpu, stride_), 1);
}

tile::Program MaskScatterKernel::body(std::uint32_t cta, std::uint32_t trips) const {
  if (co_await tile::item(trips - 1) != 0) co_return;
  for (std::uint32_t i = 0; i < trips; ++i) {
    if (i + 1 < trips) i += static_cast<std::uint32_t>(co_await tile::trip(trips - 1 - i));
    const std::uint64_t first = (std::uint64_t{i} * stride_ + cta) * kMoveThreads;
    if (first >= scatter_.indices) break;
    const auto n =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(kMoveThreads, scatter_.indices - first));
    co_await tile::load(Box{scatter_.in + first * 8, 1, n * 8, 0});
    co_await tile::load_wait();
    co_await tile::compute({.integer = std::uint64_t{n} * 20});
    // A row of the mask for each thread; which one does not matter to the cost.
    const std::uint32_t down = std::min(n, scatter_.rows);
    for (std::uint32_t left = n; left > 0; left -= std::min(left, down))
      co_await tile::store(
          Box{scatter_.out + first % scatter_.pitch, std::min(left, down), 1, scatter_.pitch});
  }
}

SgemmKernel::SgemmKernel(const Sgemm& product, const GpuSpec&) : product_{product} {
  shape_.name = "sgemm 128x128x8";
  shape_.roles = {{"threads", 8}};
  shape_.registers_per_cta = 256 * 128;
  shape_.shared_bytes = 4 * 2 * 128 * 8 * 4;
  between_read_ = product.between_read;
  between_written_ = product.between_written;
  const std::uint64_t tiles = (product.m + 127) / 128 * ((product.n + 127) / 128) * product.batch;
  set_work({{tiles, (product.k + 7) / 8}}, 1);
}

tile::Program SgemmKernel::body(std::uint32_t cta, std::uint32_t trips) const {
  constexpr std::uint32_t kTile = 128, kStep = 8;
  const std::uint64_t tiles_m = (product_.m + kTile - 1) / kTile, tiles_n = (product_.n + kTile - 1) / kTile;
  const std::uint64_t m = cta % tiles_m * kTile, n = cta / tiles_m % tiles_n * kTile,
                      batch = cta / tiles_m / tiles_n;
  const auto rows_m = static_cast<std::uint32_t>(std::min<std::uint64_t>(kTile, product_.m - m)),
             rows_n = static_cast<std::uint32_t>(std::min<std::uint64_t>(kTile, product_.n - n));
  const std::uint64_t pitch = std::uint64_t{product_.k} * 4;
  const auto box = [&](std::uint64_t base, std::uint64_t rows, std::uint64_t row, std::uint32_t count,
                       std::uint32_t step) {
    return Box{base + (batch * rows + row) * pitch + std::uint64_t{step} * kStep * 4, count,
               std::min(kStep, product_.k - step * kStep) * 4, pitch};
  };
  if (co_await tile::item(trips - 1) != 0) co_return;
  co_await tile::load(box(product_.a, product_.m, m, rows_m, 0));
  co_await tile::load(box(product_.b, product_.n, n, rows_n, 0));
  for (std::uint32_t i = 0; i < trips; ++i) {
    if (i + 1 < trips) i += static_cast<std::uint32_t>(co_await tile::trip(trips - 1 - i));
    co_await tile::load_wait();
    co_await tile::shared_store(std::uint64_t{2} * kTile * kStep * 4);
    if (const std::uint32_t next = i + 1; next * kStep < product_.k) {
      co_await tile::load(box(product_.a, product_.m, m, rows_m, next));
      co_await tile::load(box(product_.b, product_.n, n, rows_n, next));
    }
    // A warp's 4 x 8 threads own 8 x 8 results each: 32 + 64 values for each k.
    co_await tile::shared_load(std::uint64_t{8} * kStep * (32 + 64) * 4);
    co_await tile::compute({.fma = std::uint64_t{kTile} * kTile * kStep});
  }
  co_await tile::store(Box{product_.c + (batch * product_.m + m) * product_.n * 4 + n * 4, rows_m, rows_n * 4,
                           product_.n * 4});
}

}  // namespace tessera::kernels
