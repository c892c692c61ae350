#include "kernels/linear_attention/solve.hpp"

#include <fmt/format.h>

namespace tessera::kernels {

using tile::Program;

namespace {

constexpr std::uint32_t kScoreColumns = 32, kColumns = 64;  // BK, BV
// A row of the forward substitution: the row out of the L1, products with the rows before it, their sum over
// the lanes of a column and over the warps, and the change of layout that gives every lane the result. The
// latencies of these, one after another; 8 to 16 tokens against 1 take 0.2 us a row on an H200.
constexpr std::uint64_t kRowCycles = 400;
// A tile of a sub-chunk changes layout: into shared memory, a barrier, out again, a barrier before its reuse.
constexpr std::uint64_t kTurnCycles = 150;
// A product of 16 x 16 x 16 in tf32: two operands and the result change layout, mma.sync in two k steps.
constexpr std::uint64_t kSmallProductCycles = 2 * kTurnCycles + 100;

std::uint32_t blocks_of(const ChunkedCall& c) { return c.chunk() / kSubChunk; }

ShortCtaLaunch solve_launch(const ChunkedCall& c, bool fused) {
  const std::uint64_t of_head = c.head_tokens() * c.k_dim(), rows = c.head_tokens() * c.chunk();
  const std::uint64_t in = c.vector_decay() ? of_head * (2 * c.element() + 4) : rows * 4;
  const std::uint64_t again =
      fused ? of_head * (c.element() + 4) + c.head_tokens() * c.v_dim() * c.element() : 0;
  const std::uint64_t out =
      rows * c.element() +
      (fused ? of_head * 2 * c.element() + c.head_tokens() * c.v_dim() * c.element() : rows * c.element());
  return {.name = fused ? "kda inter solve, fused" : "inter solve",
          .ctas = c.head_chunks(),
          .warps = 4,
          .registers_per_thread = 248,
          .shared_bytes = 16384,
          .load_bytes = in + again + c.head_tokens() * kSubChunk * 4,
          .store_bytes = out,
          .reads = in,
          .writes = out,
          .key = fmt::format("solve {} {} {} {} {} {} {}", fused, c.op.seq, c.op.heads, c.op.k_dim,
                             c.op.v_dim, c.op.chunk, c.vector_decay())};
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
      .writes = out,
      .key = fmt::format("recompute {} {} {} {} {} {}", c.op.seq, c.op.heads, c.op.k_dim, c.op.v_dim,
                         c.op.chunk, c.vector_decay())};
}

}  // namespace

Solve::Solve(const ChunkedCall& call, bool fused, const GpuSpec& gpu)
    : ShortCtas{solve_launch(call, fused), gpu}, call_{call}, fused_{fused} {}

Program Solve::program(tile::Cta cta, std::uint32_t) const {
  const std::uint32_t count = trips(cta), e = call_.element(), k_dim = call_.k_dim(), v_dim = call_.v_dim();
  if (co_await tile::item(count - 1) != 0) co_return;
  for (std::uint32_t n = 0; n < count; ++n) {
    if (n + 1 < count) n += static_cast<std::uint32_t>(co_await tile::trip(count - 1 - n));
    if (n > 0) co_await tile::chain(next_cta_cycles());
    const HeadChunk at{call_, number(cta, n)};
    co_await tile::load({call_.k, 1, 8, 0});  // which chunk of which sequence,
    co_await tile::load_wait();
    co_await tile::load({call_.k, 1, 8, 0});  // and where that begins and ends
    co_await tile::load_wait();
    const std::uint32_t blocks = (at.rows + kSubChunk - 1) / kSubChunk;
    const auto rows_of = [&](std::uint32_t block) {
      return std::min(kSubChunk, at.rows - block * kSubChunk);
    };
    const auto block_box = [&](std::uint64_t base, std::uint32_t block, std::uint32_t width,
                               std::uint32_t column, std::uint32_t columns, std::uint32_t bytes) {
      return head_box(call_, base, at.token + std::uint64_t{block} * kSubChunk, rows_of(block), at.head,
                      width, column, columns, bytes);
    };
    const auto box = [&](std::uint64_t base, std::uint32_t width, std::uint32_t column, std::uint32_t columns,
                         std::uint32_t bytes) {
      return head_box(call_, base, at.token, at.rows, at.head, width, column, columns, bytes);
    };

    if (call_.vector_decay()) {
      const std::uint32_t columns = std::min(k_dim, kScoreColumns);
      const std::uint64_t values = std::uint64_t{kSubChunk} * columns;
      for (std::uint32_t column = 0; column < k_dim; column += columns) {
        for (std::uint32_t i = 0; i < blocks; ++i) {
          if (i > 0 || fused_) co_await tile::load(block_box(call_.q, i, k_dim, column, columns, e));
          co_await tile::load(block_box(call_.k, i, k_dim, column, columns, e));
          co_await tile::load(block_box(call_.sums, i, k_dim, column, columns, 4));
          co_await tile::load_wait();
          // q and k times e^(g - g_i) once; for each block before, k e^(g_i - g_j), turned round; two
          // products.
          const std::uint32_t pairs = i + (fused_ ? 1 : 0);
          if (pairs == 0) continue;
          co_await tile::compute({.fma = (4 + 2 * pairs) * values,
                                  .integer = (4 + 2 * pairs) * values,
                                  .mufu = (1 + pairs) * values,
                                  .convert = (2 + pairs) * values / 2},
                                 60);
          // Operands change layout: q, k, each e^(g_i - g_j) k; on the diagonal in fp32.
          const std::uint64_t moved = values * (e * (2 + i) + (fused_ ? 12 : 0));
          co_await tile::shared_store(moved);
          co_await tile::shared_load(moved);
          co_await tile::chain(kTurnCycles * (2 + i + (fused_ ? 3 : 0)));
          co_await tile::mma(kSubChunk, kSubChunk, 2 * columns * (i + (fused_ ? 2 : 0)));
          co_await tile::chain((columns / 16 - 1) * 33);  // the k steps wait for each other
        }
      }
      for (std::uint32_t i = fused_ ? 0 : 1; i < blocks; ++i)
        co_await tile::store(
            block_box(call_.scores, i, call_.chunk(), 0, kSubChunk * (i + (fused_ ? 1 : 0)), e));
    }
    // Strengths, and the blocks on the diagonal (of a scalar decay, all of A).
    if (call_.op.rule.strength) co_await tile::load(box(call_.strength, 1, 0, 1, e));
    if (!call_.vector_decay())
      co_await tile::load(box(call_.inverse, call_.chunk(), 0, call_.chunk(), 4));
    else if (!fused_)
      co_await tile::load(box(call_.diagonal, kSubChunk, 0, kSubChunk, 4));
    co_await tile::load_wait();
    std::uint64_t substituted = 0;
    for (std::uint32_t i = 0; i < blocks; ++i) substituted += rows_of(i) > 2 ? rows_of(i) - 2 : 0;
    co_await tile::chain(substituted * kRowCycles);
    // The merge takes every product whatever the rows: two for each block next to the diagonal, then three,
    // four.
    std::uint32_t products = 0;
    for (std::uint32_t apart = 1; apart < blocks_of(call_); ++apart)
      products += (blocks_of(call_) - apart) * (apart + 1);
    co_await tile::mma(kSubChunk, kSubChunk, 2 * kSubChunk * products);
    co_await tile::chain(products * kSmallProductCycles);

    if (!fused_) {
      co_await tile::store(
          box(call_.vector_decay() ? call_.inverse : call_.scores, call_.chunk(), 0, call_.chunk(), e));
      continue;
    }
    for (const bool keys : {false, true}) {
      const std::uint32_t width = keys ? k_dim : v_dim, columns = std::min(width, kColumns);
      const std::uint64_t values = std::uint64_t{call_.chunk()} * columns;
      for (std::uint32_t column = 0; column < width; column += columns) {
        co_await tile::load(box(keys ? call_.k : call_.v, width, column, columns, e));
        if (keys) co_await tile::load(box(call_.sums, width, column, columns, 4));
        co_await tile::load_wait();
        co_await tile::compute({.fma = values * (keys ? 4 : 1),
                                .integer = values,
                                .mufu = keys ? 2 * values : 0,
                                .convert = values * (keys ? 2 : 1) / 2},
                               60);
        co_await tile::shared_store(values * e);
        co_await tile::shared_load(values * e);
        co_await tile::chain(kTurnCycles * blocks_of(call_));
        const std::uint32_t tiles = blocks_of(call_) * (blocks_of(call_) + 1) / 2;
        co_await tile::mma(kSubChunk, columns, kSubChunk * tiles);
        co_await tile::chain(kTurnCycles * tiles / 2);
        co_await tile::store(box(keys ? call_.w : call_.u, width, column, columns, e));
        if (keys) co_await tile::store(box(call_.kg, width, column, columns, e));
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
                             60);
      if (decayed) {
        co_await tile::shared_store(values * e);
        co_await tile::chain(kLayoutChangeCycles);
        co_await tile::shared_load(values * e);
        co_await tile::store(head_box(call_, call_.kg, at.token, at.rows, at.head, width, 0, width, e));
      }
      co_await tile::shared_store((values + (keys ? 0 : std::uint64_t{chunk} * chunk)) * e);
      co_await tile::chain(kLayoutChangeCycles);
      if (wgmma_) {
        co_await tile::wgmma(chunk, width, chunk);
        co_await tile::wgmma_wait(0);
      } else {
        co_await tile::mma(chunk, width, chunk);
      }
      co_await tile::compute({.convert = values / 2});
      co_await tile::shared_store(values * e);
      co_await tile::chain(kLayoutChangeCycles);
      co_await tile::shared_load(values * e);
      co_await tile::store(
          head_box(call_, keys ? call_.w : call_.u, at.token, at.rows, at.head, width, 0, width, e));
    }
  }
}

}  // namespace tessera::kernels
