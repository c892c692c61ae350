#include "kernels/experts/grouped_gemm.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "kernels/tile/latency.hpp"

namespace tessera::kernels {

using tile::Box;

namespace {

constexpr std::uint32_t kWarpgroupRows = 64, kWarpgroupWarps = 4;
constexpr std::int64_t kKnownDivisor = 16;  // what Triton specialises integer arguments on
// Accumulators aside: addresses of gathered rows, fragments, indices. Estimate: what ptxas gives Triton's
// kernel is not published. docs/operators/moe.md has what half and double would change.
constexpr std::int64_t kOtherRegisters = 72, kMostRegisters = 255;
// Of an element that is loaded by itself: address, two bounds, the load, the store to shared memory.
constexpr std::uint64_t kNarrowOps = 8;
// The loop that loads element by element is unrolled: a CTA runs once through instructions of 16 B, far more
// than the caches next to the schedulers hold, taken to come a line after another out of the L2.
constexpr std::uint64_t kInstructionBytes = 16;
// A CTA finds its tile by divisions and remainders of numbers known at run time only.
constexpr std::uint64_t kPlaceDivisions = 5;
constexpr std::uint32_t kMmaDepth = 16;  // of mma.sync

std::uint32_t ceil_div(std::int64_t a, std::int64_t b) { return static_cast<std::uint32_t>((a + b - 1) / b); }
std::uint64_t u(std::int64_t n) { return static_cast<std::uint64_t>(n); }

}  // namespace

GroupedGemm::GroupedGemm(const GroupedProduct& product, const TritonTiling& tiling, Blocks blocks,
                         const GpuSpec& gpu)
    : product_{product},
      tiling_{tiling},
      blocks_{std::move(blocks)},
      steps_{ceil_div(product.k, tiling.block_k)},
      columns_{ceil_div(product.n, tiling.block_n)},
      wgmma_{gpu.sm.has_tma && tiling.block_m >= kWarpgroupRows && tiling.warps >= kWarpgroupWarps},
      narrow_{product.k % kKnownDivisor != 0} {
  const auto [m, n, k, group, warps, stages] = tiling_;
  shape_.name = fmt::format("fused_moe {}x{}x{} group {} warps {} stages {} {}{}", m, n, k, group, warps,
                            stages, wgmma_ ? "wgmma" : "mma", narrow_ ? ", loads of one element" : "");
  shape_.grid = blocks_->launched * columns_;
  shape_.roles = {{"warps", warps}};
  const std::int64_t threads = 32 * std::int64_t{warps};
  shape_.registers_per_cta = std::min(
      threads * (narrow_ ? kMostRegisters + 1
                         : std::min(std::int64_t{m} * n / threads + kOtherRegisters, kMostRegisters)),
      std::int64_t{gpu.sm.registers});
  shape_.shared_bytes =
      std::int64_t{narrow_ ? 1 : ahead() + (wgmma_ ? 1U : 0U)} * (m + n) * k * product_.element_bytes;
  mma_chain_ = static_cast<std::uint64_t>((k / kMmaDepth - 1) * static_cast<double>(gpu.sm.tensor_latency));
  shape_.prologue_cycles = kPlaceDivisions * Chains::integer_division();
  const std::uint64_t code = kNarrowOps * static_cast<std::uint64_t>(m + n) * k /
                             static_cast<std::uint64_t>(threads) * kInstructionBytes;
  cold_code_ = code / tile::kLineBytes *
               static_cast<std::uint64_t>(gpu.l2.hit_latency + gpu.l2.far_latency / gpu.l2.partitions);
  const std::uint32_t alike = steps_ > ahead() + 1 ? steps_ - 1 - ahead() : 0;
  shape_.trips = narrow_ ? 0 : std::uint64_t{alike} * blocks_->blocks.size() * columns_;
  shape_.even_trips = shape_.trips;
}

std::uint32_t GroupedGemm::ahead() const { return std::max(1U, tiling_.stages - 1); }

GroupedGemm::Place GroupedGemm::place(std::uint32_t cta) const {
  const std::uint32_t in_group = tiling_.group_m * columns_, group = cta / in_group,
                      first = group * tiling_.group_m,
                      rows = std::min(blocks_->launched - first, tiling_.group_m);
  return {first + cta % in_group % rows, cta % in_group / rows};
}

std::uint32_t GroupedGemm::depth_bytes(std::uint32_t step) const {
  return static_cast<std::uint32_t>(
             std::min<std::int64_t>(tiling_.block_k, product_.k - std::int64_t{step} * tiling_.block_k)) *
         product_.element_bytes;
}

Box GroupedGemm::a_box(const RowBlocks::Block& b, std::uint32_t step) const {
  const std::uint64_t pitch = u(product_.k) * product_.element_bytes,
                      depth = std::uint64_t{step} * tiling_.block_k * product_.element_bytes;
  // An expert's tokens are taken to be spread evenly over all.
  const std::uint64_t apart = product_.gathered ? std::max<std::uint64_t>(1, u(product_.tokens) / b.load) : 1;
  const std::uint64_t row =
      product_.gathered ? b.in_expert * apart + b.weights % apart : std::uint64_t{b.first};
  return {product_.a + row * pitch + depth, b.rows, depth_bytes(step), apart * pitch};
}

Box GroupedGemm::w_box(const RowBlocks::Block& b, std::uint32_t col, std::uint32_t step) const {
  const std::uint64_t pitch = u(product_.k) * product_.element_bytes,
                      depth = std::uint64_t{step} * tiling_.block_k * product_.element_bytes;
  // Columns beyond n wrap round: they are loaded too, from lines that are asked for already.
  const std::uint64_t first = std::uint64_t{col} * tiling_.block_n;
  const auto rows =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(tiling_.block_n, u(product_.n) - first));
  return {product_.weights + (b.weights * u(product_.n) + first) * pitch + depth, rows, depth_bytes(step),
          pitch};
}

tile::Program GroupedGemm::program(tile::Cta cta, std::uint32_t) const {
  const Place at = place(cta.index);
  // How many rows there are, with the padding.
  co_await tile::load(Box{product_.choices, 1, 4, 0});
  co_await tile::load_wait();
  if (at.row >= blocks_->blocks.size() || steps_ == 0) co_return;
  const RowBlocks::Block b = blocks_->blocks[at.row];
  // The rows' indices, and the expert.
  co_await tile::load(Box{product_.choices + std::uint64_t{b.first} * 4, 1, b.rows * 4, 0});
  co_await tile::load(Box{product_.choices + at.row * 4, 1, 4, 0});
  co_await tile::load_wait();

  const std::uint32_t ahead = narrow_ ? 0 : this->ahead(), m = tiling_.block_m, n = tiling_.block_n,
                      k = tiling_.block_k;
  const std::uint64_t tile_bytes = std::uint64_t{m + n} * k * product_.element_bytes;
  if (co_await tile::item(!narrow_ && steps_ > ahead + 1 ? steps_ - 1 - ahead : 0) != 0) co_return;
  for (std::uint32_t i = 0; i < steps_ + ahead; ++i) {
    // With the ring full, until the last step, which may be short, is to be loaded.
    if (!narrow_ && i >= ahead && i + 1 < steps_)
      i += static_cast<std::uint32_t>(co_await tile::trip(steps_ - 1 - i));
    if (ahead > 0 && i < ahead) {
      if (i < steps_) {
        co_await tile::load(a_box(b, i));
        co_await tile::load(w_box(b, at.col, i));
      }
      continue;
    }
    // cp.async.wait_group, bar.sync, the product, and only then the loads into the buffer that the step
    // before has left.
    if (narrow_) {
      co_await tile::load(a_box(b, i));
      co_await tile::load(w_box(b, at.col, i));
      if (i == 0) co_await tile::chain(cold_code_);
      co_await tile::compute({.integer = kNarrowOps * std::uint64_t{m + n} * k});
      co_await tile::load_wait();
      co_await tile::shared_store(tile_bytes);
    } else {
      // The younger steps' loads may be pending.
      const std::uint32_t younger = std::min(ahead - 1, steps_ + ahead - 1 - i);
      co_await tile::load_wait(2 * younger);
    }
    co_await tile::named_sync(1, 1);
    if (wgmma_) {
      for (std::uint32_t row = 0; row < m; row += kWarpgroupRows) co_await tile::wgmma(kWarpgroupRows, n, k);
      co_await tile::wgmma_wait(narrow_ ? 0 : m / kWarpgroupRows);
    } else {
      // ldmatrix: warps lie side by side along n, so that each reads all of A.
      co_await tile::shared_load((std::uint64_t{tiling_.warps} * m + n) * k * product_.element_bytes);
      co_await tile::mma(m, n, k);
      co_await tile::chain(mma_chain_);  // each adds to the sums of the one before
    }
    if (!narrow_ && i < steps_) {
      co_await tile::load(a_box(b, i));
      co_await tile::load(w_box(b, at.col, i));
    }
  }
  if (wgmma_) co_await tile::wgmma_wait(0);
  const std::uint64_t elements = std::uint64_t{m} * n;
  if (product_.weighted) {
    co_await tile::load(Box{product_.choices + std::uint64_t{b.first} * 4, 1, b.rows * 4, 0});
    co_await tile::load_wait();
  }
  co_await tile::compute({.fma = product_.weighted ? elements : 0, .convert = elements / 2});
  // Through shared memory, so that threads store whole lines.
  co_await tile::shared_store(elements * product_.element_bytes);
  co_await tile::shared_load(elements * product_.element_bytes);
  const std::uint64_t out_pitch = u(product_.n) * product_.element_bytes, col = std::uint64_t{at.col} * n;
  const auto cols = static_cast<std::uint32_t>(std::min<std::uint64_t>(n, u(product_.n) - col));
  co_await tile::store(Box{product_.c + b.first * out_pitch + col * product_.element_bytes, b.rows,
                           cols * product_.element_bytes, out_pitch});
}

tile::Outline GroupedGemm::outline() const {
  tile::Outline o;
  const auto real = static_cast<std::uint64_t>(blocks_->blocks.size());
  if (real > 0) o.pieces.push_back({real * columns_, steps_});
  if (blocks_->launched > real) o.pieces.push_back({(blocks_->launched - real) * columns_, 0});
  std::uint64_t rows = 0, reads = 0;
  std::uint32_t experts = 0;
  for (const RowBlocks::Block& b : blocks_->blocks) {
    rows += b.rows;
    if (b.in_expert != 0) continue;
    ++experts;
    // The weights pass once for each group of blocks.
    reads += ceil_div(ceil_div(b.load, tiling_.block_m), tiling_.group_m);
  }
  const std::uint64_t depth = u(product_.k) * product_.element_bytes;
  o.load_bytes =
      depth * (rows * columns_ + real * std::min<std::uint64_t>(u(product_.n), columns_ * tiling_.block_n));
  o.store_bytes = rows * u(product_.n) * product_.element_bytes;
  const std::uint64_t mean_rows = real > 0 ? (rows + real - 1) / real : 0;
  o.key = fmt::format("{} n{} d{} r{} {}{}", shape_.name, std::min<std::int64_t>(product_.n, tiling_.block_n),
                      std::min<std::int64_t>(product_.k, tiling_.block_k), mean_rows, product_.weighted,
                      product_.element_bytes);
  // Only an expert at a time is under way, or a few: each passes once for each group of its blocks.
  o.reread_bytes = u(product_.n) * depth;
  o.rereads = 1 + reads - experts;
  o.operand_bytes = static_cast<std::int64_t>(experts * o.reread_bytes);
  if (product_.gathered) {
    o.operand_bytes += static_cast<std::int64_t>(std::min(rows, u(product_.tokens)) * depth);
  } else {
    o.between_read = rows * depth;
  }
  o.between_written = o.store_bytes;
  return o;
}

std::unique_ptr<tile::Kernel> GroupedGemm::excerpt(std::uint32_t ctas, std::uint32_t,
                                                   std::uint32_t trips) const {
  auto e = std::make_unique<GroupedGemm>(*this);
  std::uint64_t rows = 0;
  for (const RowBlocks::Block& b : blocks_->blocks) rows += b.rows;
  const auto real = static_cast<std::uint32_t>(blocks_->blocks.size());
  auto blocks = std::make_shared<RowBlocks>();
  const std::uint32_t each = real > 0 ? static_cast<std::uint32_t>((rows + real - 1) / real) : 1;
  for (std::uint32_t c = 0; c < ctas; ++c) blocks->blocks.push_back({c, each, c * each, 0, each});
  blocks->launched = ctas;
  e->blocks_ = std::move(blocks);
  e->columns_ = 1;
  e->product_.n = std::min<std::int64_t>(product_.n, tiling_.block_n);
  e->steps_ = trips;
  if (trips > 1) e->product_.k = std::int64_t{trips} * tiling_.block_k;
  e->shape_.grid = ctas;
  return e;
}

}  // namespace tessera::kernels
