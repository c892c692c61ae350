#include "kernels/linear_attention/chunk_prepare.hpp"

#include <bit>

namespace tessera::kernels {

using tile::Program;

namespace {

constexpr std::uint32_t kGateColumns = 64;
constexpr std::uint32_t kHeadsOfToken = 4;

ShortCtaLaunch decay_sums_launch(const ChunkedCall& c, std::uint32_t columns) {
  const std::uint64_t values = c.head_tokens() * c.sums_per_token();
  return {.name = "chunk decay sums",
          .ctas = c.head_chunks() * (c.sums_per_token() / columns),
          .registers_per_thread = 64,
          .shared_bytes = 4096,
          .load_bytes = values * c.element(),
          .store_bytes = values * 4,
          .reads = values * c.element(),
          .writes = values * 4};
}

std::uint64_t groups_of_heads(const ChunkedCall& c) {
  return (c.heads() + kHeadsOfToken - 1) / kHeadsOfToken;
}

ShortCtaLaunch diagonal_launch(const ChunkedCall& c, std::uint32_t tokens) {
  const std::uint64_t of_head = c.head_tokens() * c.k_dim();
  return {.name = "kda intra token parallel",
          .ctas = (c.tokens() + tokens - 1) / tokens * groups_of_heads(c),
          .warps = tokens,
          .registers_per_thread = 96,
          // q, k and g once, and k and g of half a sub-chunk.
          .load_bytes = of_head * (2 * c.element() + 4) +
                        of_head * (c.element() + 4) * (kSubChunk + tokens) / 2 / tokens,
          .store_bytes = c.head_tokens() * kSubChunk * (c.element() + 4),
          .reads = of_head * (2 * c.element() + 4),
          .writes = c.head_tokens() * kSubChunk * (c.element() + 4)};
}

ShortCtaLaunch scaled_dot_launch(const ChunkedCall& c) {
  const std::uint64_t k = c.head_tokens() * c.k_dim() * c.element(), a = c.head_tokens() * c.chunk() * 4;
  return {.name = "chunk scaled dot kkt",
          .ctas = c.head_chunks(),
          .registers_per_thread = 96,
          .shared_bytes = std::int64_t{c.chunk()} * c.k_dim() * c.element(),
          .load_bytes = k + c.head_tokens() * (c.element() + 4),
          .store_bytes = a,
          .reads = k,
          .writes = a};
}

}  // namespace

DecaySums::DecaySums(const ChunkedCall& call, const GpuSpec& gpu)
    : ShortCtas{decay_sums_launch(call, std::min(call.sums_per_token(), kGateColumns)), gpu},
      call_{call},
      columns_{std::min(call.sums_per_token(), kGateColumns)} {}

Program DecaySums::program(tile::Cta cta, std::uint32_t) const {
  const std::uint32_t count = trips(cta), width = call_.sums_per_token(), slices = width / columns_;
  if (co_await tile::item(count - 1) != 0) co_return;
  for (std::uint32_t n = 0; n < count; ++n) {
    if (n + 1 < count) n += static_cast<std::uint32_t>(co_await tile::trip(count - 1 - n));
    if (n > 0) co_await tile::chain(next_cta_cycles());
    const std::uint64_t i = number(cta, n);
    const HeadChunk at{call_, i / slices};
    const auto column = static_cast<std::uint32_t>(i % slices) * columns_;
    const std::uint64_t values = std::uint64_t{call_.chunk()} * columns_;  // a tile is padded to whole chunks
    co_await tile::load({call_.decay, 1, 8, 0});                           // which chunk of which sequence,
    co_await tile::load_wait();
    co_await tile::load({call_.decay, 1, 8, 0});  // and where that begins and ends
    co_await tile::load_wait();
    co_await tile::load(
        head_box(call_, call_.decay, at.token, at.rows, at.head, width, column, columns_, call_.element()));
    co_await tile::load_wait();
    // Sigmoid of the scaled sum with the bias; then a scan over tokens by shuffles.
    co_await tile::compute(
        {.fma = 8 * values, .integer = 2 * values, .mufu = 2 * values, .shuffle = 2 * values},
        Chains::alu(4) + Chains::sigmoid() + Chains::lane_sum(32));
    co_await tile::shared_store(values * 4);
    co_await tile::chain(chains().exchange());
    co_await tile::store(head_box(call_, call_.sums, at.token, at.rows, at.head, width, column, columns_, 4));
  }
}

DiagonalScores::DiagonalScores(const ChunkedCall& call, const GpuSpec& gpu)
    : ShortCtas{diagonal_launch(call, side_by_side(call.tokens() * groups_of_heads(call), gpu)), gpu},
      call_{call},
      tokens_{side_by_side(call.tokens() * groups_of_heads(call), gpu)} {}

Program DiagonalScores::program(tile::Cta cta, std::uint32_t) const {
  const std::uint32_t count = trips(cta), k_dim = call_.k_dim(), e = call_.element();
  const auto seq = static_cast<std::uint64_t>(call_.op.seq);
  const std::uint64_t groups = (call_.tokens() + tokens_ - 1) / tokens_;
  if (co_await tile::item(count - 1) != 0) co_return;
  for (std::uint32_t n = 0; n < count; ++n) {
    if (n + 1 < count) n += static_cast<std::uint32_t>(co_await tile::trip(count - 1 - n));
    if (n > 0) co_await tile::chain(next_cta_cycles());
    const std::uint64_t i = number(cta, n), token = i % groups * tokens_;
    const auto tokens = static_cast<std::uint32_t>(std::min<std::uint64_t>(tokens_, call_.tokens() - token));
    const std::uint64_t head = i / groups * kHeadsOfToken;
    const auto heads =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(kHeadsOfToken, call_.heads() - head));
    const auto rows = [&](std::uint64_t base, std::uint64_t first, std::uint32_t number_of,
                          std::uint32_t width, std::uint32_t bytes) {
      return tile::Box{base + (first * call_.heads() + head) * width * bytes, number_of,
                       heads * width * bytes, call_.heads() * width * bytes};
    };
    // Which sequence: a binary search of twenty rounds, in those that are needed a length out of the L1.
    co_await tile::chain(20 * Chains::alu(2) + static_cast<std::uint64_t>(std::bit_width(
                                                   static_cast<std::uint64_t>(call_.op.batch))) *
                                                   (chains().l1 + Chains::alu(4)));
    co_await tile::load(rows(call_.q, token, tokens, k_dim, e));
    co_await tile::load(rows(call_.k, token, tokens, k_dim, e));
    co_await tile::load(rows(call_.sums, token, tokens, k_dim, 4));
    co_await tile::load_wait();
    const std::uint64_t in_sequence = token % seq;
    const std::uint64_t first = token - in_sequence % call_.chunk() % kSubChunk, last = token + tokens - 1;
    const std::uint64_t values = std::uint64_t{tokens} * heads * k_dim;
    for (std::uint64_t j = first; j <= last; ++j) {
      co_await tile::load(rows(call_.k, j, 1, k_dim, e));
      co_await tile::load(rows(call_.sums, j, 1, k_dim, 4));
      co_await tile::load_wait();
      // k_j e^(g - g_j), two products with it, and their sums over the lanes.
      co_await tile::compute(
          {.fma = 5 * values,
           .integer = values,
           .mufu = values,
           .shuffle = std::uint64_t{2} * 5 * 32 * tokens * heads},
          Chains::alu(2) + Chains::exponential() + Chains::alu(2 + k_dim / 32) + Chains::lane_sum(32));
    }
    co_await tile::store({call_.diagonal + (token * call_.heads() + head) * kSubChunk * 4, tokens,
                          heads * kSubChunk * 4, call_.heads() * kSubChunk * 4});
    // Of the scores the blocks on the diagonal: a piece of each head's row, of each token.
    for (std::uint64_t t = token; t <= last; ++t) {
      const std::uint64_t block = t % seq % call_.chunk() / kSubChunk;
      co_await tile::store(
          {call_.scores + ((t * call_.heads() + head) * call_.chunk() + block * kSubChunk) * e, heads,
           kSubChunk * e, std::uint64_t{call_.chunk()} * e});
    }
  }
}

ScaledDot::ScaledDot(const ChunkedCall& call, const GpuSpec& gpu)
    : ShortCtas{scaled_dot_launch(call), gpu}, call_{call}, wgmma_{gpu.sm.has_tma} {}

Program ScaledDot::program(tile::Cta cta, std::uint32_t) const {
  const std::uint32_t count = trips(cta), k_dim = call_.k_dim(), chunk = call_.chunk();
  const std::uint64_t values = std::uint64_t{chunk} * k_dim, scores = std::uint64_t{chunk} * chunk;
  if (co_await tile::item(count - 1) != 0) co_return;
  for (std::uint32_t n = 0; n < count; ++n) {
    if (n + 1 < count) n += static_cast<std::uint32_t>(co_await tile::trip(count - 1 - n));
    if (n > 0) co_await tile::chain(next_cta_cycles());
    const HeadChunk at{call_, number(cta, n)};
    if (call_.op.rule.strength)
      co_await tile::load(
          head_box(call_, call_.strength, at.token, at.rows, at.head, 1, 0, 1, call_.element()));
    if (call_.sums_per_token() == 1)
      co_await tile::load(head_box(call_, call_.sums, at.token, at.rows, at.head, 1, 0, 1, 4));
    co_await tile::load(
        head_box(call_, call_.k, at.token, at.rows, at.head, k_dim, 0, k_dim, call_.element()));
    co_await tile::load_wait();
    co_await tile::compute({.fma = values, .integer = values, .convert = values / 2});
    co_await tile::shared_store(values * call_.element());
    co_await tile::chain(chains().exchange());
    if (wgmma_) {
      co_await tile::wgmma(chunk, chunk, k_dim);
      co_await tile::wgmma_wait(0);
    } else {
      co_await tile::mma(chunk, chunk, k_dim);
    }
    co_await tile::compute({.fma = 2 * scores, .integer = 2 * scores, .mufu = scores});
    co_await tile::store({call_.inverse + (at.token * call_.heads() + at.head) * chunk * 4, at.rows,
                          chunk * 4, call_.heads() * chunk * 4});
  }
}

}  // namespace tessera::kernels
