#include "kernels/attention_prefill/flash2.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace tessera::kernels {

using tile::Box;

Flash2::Flash2(const models::Attention& attention, const GpuSpec& gpu, const Addresses& addresses)
    : attention_{attention},
      q_{addresses.operands.at(0)},
      k_{addresses.operands.at(1)},
      v_{addresses.operands.at(2)},
      out_{addresses.operands.at(3)},
      element_bytes_{static_cast<std::uint32_t>(models::bytes_of(attention.dtype))} {
  if (attention.partial) stats_ = addresses.operands.at(4);
  const auto d = static_cast<std::uint32_t>(attention.head_dim);
  if (d <= 64) tile_kv_ = 128;
  if (d > 128) tile_q_ = 64;
  query_tiles_ = query_tiles(attention, tile_q_, tile_kv_);
  shape_.name = fmt::format("flash2 {}x{} d{}{}", tile_q_, tile_kv_, d, attention.causal ? " causal" : "");
  shape_.grid = static_cast<std::uint32_t>(attention.batch * attention.heads) *
                static_cast<std::uint32_t>(query_tiles_.size());
  shape_.roles = {{"warps", 4}};
  shape_.registers_per_cta = std::min<std::int64_t>(gpu.sm.registers / 2, 128 * 255);
  shape_.shared_bytes = std::int64_t{tile_q_ + 2 * tile_kv_} * d * element_bytes_;
  for (const QueryTile& q : query_tiles_) shape_.trips += q.alike();
  shape_.trips *= static_cast<std::uint64_t>(attention.batch * attention.heads);
  shape_.even_trips = shape_.trips;
  shape_.prologue_cycles = 200;
}

tile::Outline Flash2::outline() const {
  tile::Outline o{.key = fmt::format("flash2 {} {} {} {} {} {}", tile_q_, tile_kv_, attention_.head_dim,
                                     element_bytes_, attention_.partial, query_tiles_.front().rows)};
  add_pieces(o, query_tiles_, tile_kv_, attention_, element_bytes_);
  return o;
}

std::unique_ptr<tile::Kernel> Flash2::excerpt(std::uint32_t ctas, std::uint32_t, std::uint32_t trips) const {
  auto e = std::make_unique<Flash2>(*this);
  e->query_tiles_ = {excerpt_of(query_tiles_, trips)};
  e->attention_.batch = ctas;
  e->attention_.heads = e->attention_.kv_heads = 1;
  e->attention_.kv_rows = std::int64_t{trips} * tile_kv_;
  e->shape_.grid = ctas;
  return e;
}

tile::Program Flash2::program(tile::Cta cta, std::uint32_t) const {
  const auto d = static_cast<std::uint32_t>(attention_.head_dim);
  const std::uint32_t row_bytes = d * element_bytes_;
  const std::uint64_t q_pitch = std::uint64_t{row_bytes} * static_cast<std::uint64_t>(attention_.heads);
  const std::uint64_t kv_pitch = std::uint64_t{row_bytes} * static_cast<std::uint64_t>(attention_.kv_heads);
  const auto blocks = static_cast<std::uint32_t>(query_tiles_.size());
  // Query tiles vary fastest, so that CTAs of one head, and its K and V, run together; longest first.
  const std::uint32_t block = cta.index % blocks;
  const QueryTile& query = query_tiles_[attention_.causal ? blocks - 1 - block : block];
  const auto heads = static_cast<std::uint32_t>(attention_.heads);
  const std::uint32_t head = cta.index / blocks % heads, batch = cta.index / blocks / heads;
  const std::uint32_t kv_head = head / static_cast<std::uint32_t>(attention_.heads / attention_.kv_heads);
  const std::uint64_t q_row = batch * static_cast<std::uint64_t>(attention_.q_rows) + query.first_row;
  const auto kv_box = [&](std::uint64_t base, std::uint32_t n) {
    const std::uint64_t row =
        batch * static_cast<std::uint64_t>(attention_.kv_rows) + std::uint64_t{n} * tile_kv_;
    const auto rows = static_cast<std::uint32_t>(std::min<std::uint64_t>(
        tile_kv_, static_cast<std::uint64_t>(attention_.kv_rows) - std::uint64_t{n} * tile_kv_));
    return Box{base + row * kv_pitch + std::uint64_t{kv_head} * row_bytes, rows, row_bytes, kv_pitch};
  };
  const std::uint64_t scores = std::uint64_t{tile_q_} * tile_kv_, outputs = std::uint64_t{tile_q_} * d;
  // Every warp owns 16 or 32 rows and so reads the whole K (V) tile through ldmatrix.
  const std::uint64_t operand_bytes = std::uint64_t{4} * tile_kv_ * row_bytes;

  if (co_await tile::item(query.alike()) != 0) co_return;
  co_await tile::load(
      Box{q_ + q_row * q_pitch + std::uint64_t{head} * row_bytes, query.rows, row_bytes, q_pitch});
  if (query.kv_tiles > 0) co_await tile::load(kv_box(k_, query.kv_tiles - 1));
  for (std::uint32_t i = 0; i < query.kv_tiles; ++i) {
    // K of the next tile is on its way: it stands for that of the tile gone on with.
    if (const std::uint32_t alike = query.alike(i); alike > 0)
      i += static_cast<std::uint32_t>(co_await tile::trip(alike));
    const std::uint32_t n = query.kv_tiles - 1 - i;
    co_await tile::load_wait(0);  // K of this tile (and Q)
    co_await tile::load(kv_box(v_, n));
    co_await tile::shared_load(operand_bytes + (i == 0 ? outputs * element_bytes_ : 0));
    co_await tile::mma(tile_q_, tile_kv_, d);  // S = Q K^T
    co_await tile::load_wait(0);               // V of this tile
    if (n > 0) co_await tile::load(kv_box(k_, n - 1));
    if (n >= query.unmasked_tiles) co_await tile::compute({.integer = 2 * scores});
    co_await tile::compute({.integer = scores, .shuffle = std::uint64_t{4} * tile_q_ * 2});
    co_await tile::compute({.fma = 2 * scores, .mufu = scores});
    co_await tile::compute({.fma = outputs, .convert = scores / 2});
    co_await tile::shared_load(operand_bytes);
    co_await tile::mma(tile_q_, d, tile_kv_);  // O += P V
  }
  co_await tile::compute({.fma = outputs, .mufu = std::uint64_t{tile_q_} * 4, .convert = outputs / 2});
  co_await tile::shared_store(outputs * element_bytes_);
  co_await tile::shared_load(outputs * element_bytes_);
  co_await tile::store(
      Box{out_ + q_row * q_pitch + std::uint64_t{head} * row_bytes, query.rows, row_bytes, q_pitch});
  if (attention_.partial) {
    const std::uint64_t stats_pitch = static_cast<std::uint64_t>(attention_.heads) * 8;
    co_await tile::store(
        Box{stats_ + q_row * stats_pitch + std::uint64_t{head} * 8, query.rows, 8, stats_pitch});
  }
}

}  // namespace tessera::kernels
