#include "kernels/attention_paged/small_kernels.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace tessera::kernels {

using tile::Box;
using tile::Program;

namespace {

constexpr std::uint32_t kCacheWarps = 4;
constexpr std::uint32_t kSequencesPerWarp = 31;
// One step of a bitonic or merge exchange between the threads of a CTA: shared memory and a barrier.
constexpr std::uint32_t kExchangeCycles = 60;

std::uint32_t as32(std::int64_t n) { return static_cast<std::uint32_t>(n); }

}  // namespace

CacheWrite::CacheWrite(const PagedCall& call, const PagedAddresses& at)
    : call_{call},
      at_{at},
      row_bytes_{static_cast<std::uint64_t>(call.kv_heads * call.head_dim * call.element_bytes)} {
  // A long row is shared by several warps.
  warps_per_row_ = row_bytes_ % 2048 == 0 ? 4 : row_bytes_ % 1024 == 0 ? 2 : 1;
  shape_.name = "kv cache write";
  shape_.launched_beside = true;  // SGLang's store_cache, on Hopper
  shape_.roles = {{"threads", kCacheWarps}};
  shape_.registers_per_cta = kCacheWarps * 32 * 40;
  shape_.grid = as32((call.batch * call.new_rows * warps_per_row_ + kCacheWarps - 1) / kCacheWarps);
}

Program CacheWrite::program(tile::Cta cta, std::uint32_t) const {
  const std::uint32_t rows_per_cta = kCacheWarps / warps_per_row_;
  const std::uint64_t first = std::uint64_t{cta.index} * rows_per_cta;
  const auto total = static_cast<std::uint64_t>(call_.batch * call_.new_rows);
  const std::uint64_t last = std::min<std::uint64_t>(total, first + rows_per_cta);
  const auto bytes = static_cast<std::uint32_t>(row_bytes_);
  co_await tile::load(
      Box{at_.places + first * 4, 1, static_cast<std::uint32_t>(last - first) * 4, 0});  // where the row goes
  co_await tile::load_wait();
  const auto new_rows = static_cast<std::uint64_t>(call_.new_rows);
  const auto past = static_cast<std::uint64_t>(call_.context - call_.new_rows);
  const auto context = static_cast<std::uint64_t>(call_.context);
  const auto rows = as32(static_cast<std::int64_t>(last - first));
  co_await tile::load(Box{at_.k_new + first * row_bytes_, rows, bytes, row_bytes_});
  co_await tile::load(Box{at_.v_new + first * row_bytes_, rows, bytes, row_bytes_});
  co_await tile::load_wait();
  for (std::uint64_t row = first; row < last; ++row) {
    const std::uint64_t to = (row / new_rows * context + past + row % new_rows) * row_bytes_;
    co_await tile::store(Box{at_.k_cache + to, 1, bytes, 0});
    co_await tile::store(Box{at_.v_cache + to, 1, bytes, 0});
  }
}

tile::Outline CacheWrite::outline() const {
  // Whole CTAs, rows of whole lines: where they lie makes no difference.
  const std::uint64_t rows = static_cast<std::uint64_t>(call_.batch * call_.new_rows);
  if (rows % (kCacheWarps / warps_per_row_) != 0 || row_bytes_ % tile::kLineBytes != 0) return {};
  return {.key = fmt::format("{} {}", shape_.name, row_bytes_)};
}

ScheduleKernel::ScheduleKernel(const PagedCall& call, const PagedAddresses& at)
    : at_{at}, sequences_{as32(call.batch)} {
  const std::uint32_t warps = (sequences_ + kSequencesPerWarp - 1) / kSequencesPerWarp;
  shape_.name = "flash3 schedule";
  shape_.grid = (warps + 31) / 32;
  shape_.roles = {{"threads", std::bit_ceil(std::min(warps, 32U))}};
  shape_.registers_per_cta = shape_.threads() * 40;
}

Program ScheduleKernel::program(tile::Cta, std::uint32_t) const {
  const std::uint32_t threads = shape_.threads();
  co_await tile::load(Box{at_.lengths, 1, sequences_ * 4, 0});  // of the queries
  co_await tile::load(Box{at_.lengths + std::uint64_t{sequences_} * 4, 1, sequences_ * 4, 0});  // of the keys
  co_await tile::load_wait();
  // The sum over all sequences, then a merge sort by length: log2(threads) rounds of a binary search each.
  const auto rounds = static_cast<std::uint32_t>(std::bit_width(threads) - 1);
  co_await tile::chain(kExchangeCycles * (2 + rounds * (rounds + 1) / 2));
  co_await tile::store(Box{at_.schedule, 1, sequences_ * 16, 0});
}

NothingToCombine::NothingToCombine(const PagedCall& call, const PagedAddresses& at) : at_{at} {
  const std::int64_t columns = call.head_dim % 128 == 0 ? 128 : 64, rows = columns == 128 ? 8 : 16;
  shape_.name = "flash3 combine, nothing to do";
  shape_.roles = {{"threads", 8}};
  shape_.registers_per_cta = 8 * 32 * 64;
  shape_.grid = as32((call.new_rows * call.heads + rows - 1) / rows *
                     ((call.head_dim + columns - 1) / columns) * call.batch);
}

Program NothingToCombine::program(tile::Cta, std::uint32_t) const {
  co_await tile::load(Box{at_.schedule, 1, 4, 0});
  co_await tile::load_wait();
}

StreamWork combine_work(const PagedCall& call, std::uint32_t splits, const PagedAddresses& at) {
  const auto rows = static_cast<std::uint64_t>(call.batch * call.new_rows * call.heads);
  const auto d = static_cast<std::uint64_t>(call.head_dim);
  StreamWork work{.name = "flash3 combine", .rows = static_cast<std::int64_t>(rows), .whole_rows = true};
  for (std::uint64_t s = 0; s < splits; ++s) {
    work.in.push_back({at.partials + s * rows * d * 4, d * 4, d * 4});
    work.in.push_back({at.statistics + s * rows * 4, 4, 4});
  }
  work.out = {{at.out, d * 2, d * 2}};
  work.per_row = {.fma = splits * (d + 4), .integer = splits, .mufu = splits + 1, .convert = d / 2};
  return work;
}

}  // namespace tessera::kernels
