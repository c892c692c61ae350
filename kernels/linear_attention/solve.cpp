#include "kernels/linear_attention/solve.hpp"

namespace tessera::kernels {

using tile::Program;

namespace {

constexpr std::uint32_t kScoreColumns = 32, kColumns = 64;  // BK, BV
// More tiles are alive than fit: ptxas takes what it may (SGLang's chunk_kda_fwd says that it spills).
constexpr std::uint32_t kMostRegisters = 255;

/// A row of the forward substitution: its address and bounds, the row out of the L1, negated and masked;
/// turned to a column, multiplied with the rows before it; their sum over a thread's two rows, two lanes and
/// four warps, which is turned twice and reduced in between; added, and selected into the block.
std::uint64_t row_cycles(const Chains& c) {
  return Chains::alu(4) + c.l1 + Chains::alu(2) + c.turn() + Chains::alu(2) + Chains::lane_sum(2) + c.turn() +
         Chains::lane_sum(4) + c.turn() + Chains::alu(3);
}
/// A product of 16 x 16 x 16 in tf32: two operands change layout, mma.sync in two k steps.
std::uint64_t small_product_cycles(const Chains& c) { return 2 * c.turn() + 2 * c.tensor; }

std::uint32_t blocks_of(const ChunkedCall& c) { return c.chunk() / kSubChunk; }

// Warps of a CTA, of one, two and four that the autotuner may choose. Which is not recorded; the unfused
// kernel is taken to have two: with four, long calls are 15 to 25 % slower than measured, with one as much
// faster.
constexpr std::uint32_t kFusedWarps = 4, kWarps = 2;
std::uint32_t solve_warps(bool fused) { return fused ? kFusedWarps : kWarps; }
/// How many CTAs run side by side, as warps of one (side_by_side).
std::uint32_t solves_beside(const ChunkedCall& c, bool fused, const GpuSpec& gpu) {
  return std::min(side_by_side(c.head_chunks(), gpu), 4 / solve_warps(fused));
}

ShortCtaLaunch solve_launch(const ChunkedCall& c, bool fused, std::uint32_t beside) {
  const std::uint64_t of_head = c.head_tokens() * c.k_dim(), rows = c.head_tokens() * c.chunk();
  const std::uint64_t in = c.vector_decay() ? of_head * (2 * c.element() + 4) : rows * 4;
  const std::uint64_t again =
      fused ? of_head * (c.element() + 4) + c.head_tokens() * c.v_dim() * c.element() : 0;
  const std::uint64_t out =
      rows * c.element() +
      (fused ? of_head * 2 * c.element() + c.head_tokens() * c.v_dim() * c.element() : rows * c.element());
  return {.name = fused ? "kda inter solve, fused" : "inter solve",
          .ctas = (c.head_chunks() + beside - 1) / beside,
          .warps = solve_warps(fused) * beside,
          .registers_per_thread = kMostRegisters,
          .shared_bytes = std::int64_t{4096} * solve_warps(fused) * beside,
          .load_bytes = in + again + c.head_tokens() * kSubChunk * 4,
          .store_bytes = out,
          .reads = in,
          .writes = out};
}

ShortCtaLaunch recompute_launch(const ChunkedCall& c) {
  const std::uint64_t k = c.head_tokens() * c.k_dim() * c.element(),
                      v = c.head_tokens() * c.v_dim() * c.element();
  const std::uint64_t in = k + v + c.head_tokens() * (c.sums_per_token() * 4 + c.chunk() * c.element()),
                      out = v + k * (c.vector_decay() ? 2 : 1);
  return {
      .name = "recompute w u",
      .ctas = c.head_chunks(),
      .warps = 8,
      .registers_per_thread = 128,
      .shared_bytes = std::int64_t{c.chunk()} * (c.chunk() + std::max(c.k_dim(), c.v_dim())) * c.element(),
      .load_bytes = in,
      .store_bytes = out,
      .reads = in,
      .writes = out};
}

}  // namespace

Solve::Solve(const ChunkedCall& call, bool fused, const GpuSpec& gpu)
    : ShortCtas{solve_launch(call, fused, solves_beside(call, fused, gpu)), gpu},
      call_{call},
      fused_{fused},
      beside_{solves_beside(call, fused, gpu)} {}

Program Solve::program(tile::Cta cta, std::uint32_t) const {
  const std::uint32_t count = trips(cta), e = call_.element(), k_dim = call_.k_dim(), v_dim = call_.v_dim();
  const auto block_box = [&](const HeadChunk& at, std::uint64_t base, std::uint32_t block,
                             std::uint32_t width, std::uint32_t column, std::uint32_t columns,
                             std::uint32_t bytes) {
    return head_box(call_, base, at.token + std::uint64_t{block} * kSubChunk,
                    std::min(kSubChunk, at.rows - block * kSubChunk), at.head, width, column, columns, bytes);
  };
  const auto box = [&](const HeadChunk& at, std::uint64_t base, std::uint32_t width, std::uint32_t column,
                       std::uint32_t columns, std::uint32_t bytes) {
    return head_box(call_, base, at.token, at.rows, at.head, width, column, columns, bytes);
  };
  if (co_await tile::item(count - 1) != 0) co_return;
  for (std::uint32_t n = 0; n < count; ++n) {
    if (n + 1 < count) n += static_cast<std::uint32_t>(co_await tile::trip(count - 1 - n));
    if (n > 0) co_await tile::chain(next_cta_cycles());
    const std::uint64_t first = number(cta, n) * beside_,
                        last = std::min(first + beside_, call_.head_chunks());
    const std::uint64_t many = last - first;
    co_await tile::load({call_.k, 1, 8, 0});  // which chunk of which sequence,
    co_await tile::load_wait();
    co_await tile::load({call_.k, 1, 8, 0});  // and where that begins and ends
    co_await tile::load_wait();
    std::uint32_t rows = 0;
    for (std::uint64_t c = first; c < last; ++c) rows = std::max(rows, HeadChunk{call_, c}.rows);
    const std::uint32_t blocks = (rows + kSubChunk - 1) / kSubChunk;

    if (call_.vector_decay()) {
      const std::uint32_t columns = std::min(k_dim, kScoreColumns);
      const std::uint64_t values = many * kSubChunk * columns;
      for (std::uint32_t column = 0; column < k_dim; column += columns) {
        for (std::uint32_t i = 0; i < blocks; ++i) {
          for (std::uint64_t c = first; c < last; ++c) {
            const HeadChunk at{call_, c};
            if (i * kSubChunk >= at.rows) continue;
            if (i > 0 || fused_) co_await tile::load(block_box(at, call_.q, i, k_dim, column, columns, e));
            co_await tile::load(block_box(at, call_.k, i, k_dim, column, columns, e));
            co_await tile::load(block_box(at, call_.sums, i, k_dim, column, columns, 4));
          }
          co_await tile::load_wait();
          // q and k times e^(g - g_i) once; for each block before, k e^(g_i - g_j), turned round; two
          // products.
          const std::uint32_t pairs = i + (fused_ ? 1 : 0);
          if (pairs == 0) continue;
          co_await tile::compute({.fma = (4 + 2 * pairs) * values,
                                  .integer = (4 + 2 * pairs) * values,
                                  .mufu = (1 + pairs) * values,
                                  .convert = (2 + pairs) * values / 2},
                                 Chains::exponential() + Chains::alu(4));
          // Operands change layout: q, k, each e^(g_i - g_j) k; on the diagonal in fp32.
          const std::uint64_t moved = values * (e * (2 + i) + (fused_ ? 12 : 0));
          co_await tile::shared_store(moved);
          co_await tile::shared_load(moved);
          co_await tile::chain(chains().turn() * (2 + i + (fused_ ? 3 : 0)));
          co_await tile::mma(kSubChunk, kSubChunk,
                             2 * columns * (i + (fused_ ? 2 : 0)) * static_cast<std::uint32_t>(many));
          co_await tile::chain((columns / 16 - 1) * chains().tensor);  // the k steps wait for each other
        }
      }
      for (std::uint64_t c = first; c < last; ++c) {
        const HeadChunk at{call_, c};
        for (std::uint32_t i = fused_ ? 0 : 1; i * kSubChunk < at.rows; ++i)
          co_await tile::store(
              block_box(at, call_.scores, i, call_.chunk(), 0, kSubChunk * (i + (fused_ ? 1 : 0)), e));
      }
    }
    // Strengths, and the blocks on the diagonal (of a scalar decay, all of A).
    for (std::uint64_t c = first; c < last; ++c) {
      const HeadChunk at{call_, c};
      if (call_.op.rule.strength) co_await tile::load(box(at, call_.strength, 1, 0, 1, e));
      if (!call_.vector_decay())
        co_await tile::load(box(at, call_.inverse, call_.chunk(), 0, call_.chunk(), 4));
      else if (!fused_)
        co_await tile::load(box(at, call_.diagonal, kSubChunk, 0, kSubChunk, 4));
    }
    co_await tile::load_wait();
    std::uint32_t substituted = 0;
    for (std::uint32_t i = 0; i < blocks; ++i) {
      const std::uint32_t in_block = std::min(kSubChunk, rows - i * kSubChunk);
      substituted += in_block > 2 ? in_block - 2 : 0;
    }
    co_await tile::chain(substituted * row_cycles(chains()));
    // The merge takes every product whatever the rows: two for each block next to the diagonal, then three,
    // four.
    std::uint32_t products = 0;
    for (std::uint32_t apart = 1; apart < blocks_of(call_); ++apart)
      products += (blocks_of(call_) - apart) * (apart + 1);
    co_await tile::mma(kSubChunk, kSubChunk, 2 * kSubChunk * products * static_cast<std::uint32_t>(many));
    co_await tile::chain(products * small_product_cycles(chains()));

    if (!fused_) {
      for (std::uint64_t c = first; c < last; ++c)
        co_await tile::store(box(HeadChunk{call_, c}, call_.vector_decay() ? call_.inverse : call_.scores,
                                 call_.chunk(), 0, call_.chunk(), e));
      continue;
    }
    const HeadChunk at{call_, first};
    for (const bool keys : {false, true}) {
      const std::uint32_t width = keys ? k_dim : v_dim, columns = std::min(width, kColumns);
      const std::uint64_t values = std::uint64_t{call_.chunk()} * columns;
      for (std::uint32_t column = 0; column < width; column += columns) {
        co_await tile::load(box(at, keys ? call_.k : call_.v, width, column, columns, e));
        if (keys) co_await tile::load(box(at, call_.sums, width, column, columns, 4));
        co_await tile::load_wait();
        co_await tile::compute({.fma = values * (keys ? 4 : 1),
                                .integer = values,
                                .mufu = keys ? 2 * values : 0,
                                .convert = values * (keys ? 2 : 1) / 2},
                               Chains::exponential() + Chains::alu(4));
        co_await tile::shared_store(values * e);
        co_await tile::shared_load(values * e);
        co_await tile::chain(chains().turn() * blocks_of(call_));
        const std::uint32_t tiles = blocks_of(call_) * (blocks_of(call_) + 1) / 2;
        co_await tile::mma(kSubChunk, columns, kSubChunk * tiles);
        co_await tile::chain(chains().tensor * tiles);
        co_await tile::store(box(at, keys ? call_.w : call_.u, width, column, columns, e));
        if (keys) co_await tile::store(box(at, call_.kg, width, column, columns, e));
      }
    }
  }
}

RecomputeWU::RecomputeWU(const ChunkedCall& call, const GpuSpec& gpu)
    : ShortCtas{recompute_launch(call), gpu}, call_{call}, wgmma_{gpu.sm.has_tma} {}

Program RecomputeWU::program(tile::Cta cta, std::uint32_t) const {
  const std::uint32_t count = trips(cta), e = call_.element(), chunk = call_.chunk();
  if (co_await tile::item(count - 1) != 0) co_return;
  for (std::uint32_t n = 0; n < count; ++n) {
    if (n + 1 < count) n += static_cast<std::uint32_t>(co_await tile::trip(count - 1 - n));
    if (n > 0) co_await tile::chain(next_cta_cycles());
    const HeadChunk at{call_, number(cta, n)};
    co_await tile::load({call_.k, 1, 8, 0});  // which chunk of which sequence,
    co_await tile::load_wait();
    co_await tile::load({call_.k, 1, 8, 0});  // and where that begins and ends
    co_await tile::load_wait();
    if (call_.op.rule.strength)
      co_await tile::load(head_box(call_, call_.strength, at.token, at.rows, at.head, 1, 0, 1, e));
    co_await tile::load(head_box(call_, call_.vector_decay() ? call_.inverse : call_.scores, at.token,
                                 at.rows, at.head, chunk, 0, chunk, e));
    for (const bool keys : {false, true}) {
      const std::uint32_t width = keys ? call_.k_dim() : call_.v_dim();
      const std::uint64_t values = std::uint64_t{chunk} * width;
      co_await tile::load(
          head_box(call_, keys ? call_.k : call_.v, at.token, at.rows, at.head, width, 0, width, e));
      if (keys && call_.sums_per_token() > 0)
        co_await tile::load(head_box(call_, call_.sums, at.token, at.rows, at.head, call_.sums_per_token(), 0,
                                     call_.sums_per_token(), 4));
      co_await tile::load_wait();
      const bool decayed = keys && call_.vector_decay();
      co_await tile::compute({.fma = values * (decayed ? 4 : 1),
                              .integer = values,
                              .mufu = decayed ? 2 * values : 0,
                              .convert = values * (decayed ? 2 : 1) / 2},
                             Chains::exponential() + Chains::alu(4));
      if (decayed) {
        co_await tile::shared_store(values * e);
        co_await tile::chain(chains().exchange());
        co_await tile::shared_load(values * e);
        co_await tile::store(head_box(call_, call_.kg, at.token, at.rows, at.head, width, 0, width, e));
      }
      co_await tile::shared_store((values + (keys ? 0 : std::uint64_t{chunk} * chunk)) * e);
      co_await tile::chain(chains().exchange());
      if (wgmma_) {
        co_await tile::wgmma(chunk, width, chunk);
        co_await tile::wgmma_wait(0);
      } else {
        co_await tile::mma(chunk, width, chunk);
      }
      co_await tile::compute({.convert = values / 2});
      co_await tile::shared_store(values * e);
      co_await tile::chain(chains().exchange());
      co_await tile::shared_load(values * e);
      co_await tile::store(
          head_box(call_, keys ? call_.w : call_.u, at.token, at.rows, at.head, width, 0, width, e));
    }
  }
}

}  // namespace tessera::kernels
