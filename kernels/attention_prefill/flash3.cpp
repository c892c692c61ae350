#include "kernels/attention_prefill/flash3.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/attention_prefill/softmax_cost.hpp"

namespace tessera::kernels {

using tile::Box;
using tile::Program;

namespace {

// The scheduler orders tiles so that the K and V of the heads in progress stay in this much L2, as
// FlashAttention-3's tile scheduler assumes.
constexpr std::int64_t kL2Section = 32 * 1024 * 1024;

struct TileSize {
  std::uint32_t q, kv;
};

// FlashAttention-3 forward, bf16 (hopper/tile_size.h).
TileSize tile_size(std::int64_t head_dim, std::int64_t value_dim, bool causal) {
  if (head_dim <= 64) return {192, causal ? 128U : 192U};
  if (head_dim <= 96) return {192, causal ? 128U : 144U};
  if (head_dim <= 128) return {128, causal ? 128U : 176U};
  if (head_dim <= 192 && value_dim <= 128) return {128, 128};
  if (head_dim <= 192) return {128, causal ? 96U : 112U};
  return {128, 80};
}

}  // namespace

Flash3::Flash3(const models::Attention& attention, const GpuSpec& gpu, const Addresses& addresses,
               std::int64_t value_dim)
    : attention_{attention},
      q_{addresses.operands.at(0)},
      k_{addresses.operands.at(1)},
      v_{addresses.operands.at(2)},
      out_{addresses.operands.at(3)},
      element_bytes_{static_cast<std::uint32_t>(models::bytes_of(attention.dtype))},
      value_dim_{static_cast<std::uint32_t>(value_dim > 0 ? value_dim : attention.head_dim)},
      turns_{attention.head_dim <= 128},
      p_in_registers_{attention.head_dim > 96 || (attention.head_dim <= 64 && attention.causal)},
      dynamic_{attention.causal} {
  if (attention.partial) stats_ = addresses.operands.at(4);
  const TileSize size = tile_size(attention.head_dim, value_dim_, attention.causal);
  tile_q_ = size.q;
  tile_kv_ = size.kv;
  consumers_ = tile_q_ / kWarpgroupRows;
  query_tiles_ = query_tiles(attention, tile_q_, tile_kv_);

  const std::int64_t group = attention.heads / attention.kv_heads;
  const std::int64_t kv_bytes = attention.kv_rows * (attention.head_dim + value_dim_) * element_bytes_;
  const std::int64_t kv_heads_in_l2 =
      std::max<std::int64_t>(1, kL2Section / std::max<std::int64_t>(1, kv_bytes));
  heads_per_section_ =
      static_cast<std::uint32_t>(std::min(attention.batch * attention.heads, kv_heads_in_l2 * group));
  if (attention.first_release) heads_per_section_ = 1;

  const auto d = static_cast<std::uint32_t>(attention.head_dim);
  shape_.name =
      fmt::format("flash3 {}x{} d{}{}{}", tile_q_, tile_kv_, d,
                  value_dim_ == d ? "" : fmt::format("/{}", value_dim_), attention.causal ? " causal" : "");
  shape_.grid = std::min(tiles(), static_cast<std::uint32_t>(gpu.sms()));
  shape_.roles.push_back({"producer", 4});
  for (std::uint32_t c = 0; c < consumers_; ++c) shape_.roles.push_back({fmt::format("consumer{}", c), 4});
  shape_.registers_per_cta = gpu.sm.registers;
  shape_.shared_bytes = std::int64_t{tile_q_} * d * element_bytes_ +
                        std::int64_t{kStages} * tile_kv_ * (d + value_dim_) * element_bytes_ +
                        (p_in_registers_ ? 0 : std::int64_t{2} * tile_q_ * tile_kv_);
  shape_.barriers = {
      {"q_full", 1},    {"q_empty", consumers_}, {"tile_full", 1},           {"tile_empty", consumers_},
      {"k_full[0]", 1}, {"k_full[1]", 1},        {"k_empty[0]", consumers_}, {"k_empty[1]", consumers_},
      {"v_full[0]", 1}, {"v_full[1]", 1},        {"v_empty[0]", consumers_}, {"v_empty[1]", consumers_}};
  shape_.prologue_cycles = 500;  // tensor-map prefetch, mbarrier initialisation, setmaxnreg
  handed_.resize(shape_.grid, kEnd);
  for (const QueryTile& q : query_tiles_) shape_.trips += q.alike();
  shape_.trips *= static_cast<std::uint64_t>(attention.batch * attention.heads);
  // Longest first from a counter, all CTAs end together.
  shape_.even_trips = dynamic_ && !attention.first_release
                          ? shape_.trips
                          : shape_.trips * (tiles() / shape_.grid * shape_.grid) / tiles();
}

std::uint32_t Flash3::tiles() const {
  return static_cast<std::uint32_t>(attention_.batch * attention_.heads) *
         static_cast<std::uint32_t>(query_tiles_.size());
}

Flash3::Tile Flash3::tile_at(std::uint32_t index) const {
  // Sections of heads; in a section the longest (last) query tiles of all heads come first.
  const auto blocks = static_cast<std::uint32_t>(query_tiles_.size());
  const std::uint32_t per_section = heads_per_section_ * blocks;
  const std::uint32_t first_head = index / per_section * heads_per_section_;
  const std::uint32_t total = static_cast<std::uint32_t>(attention_.batch * attention_.heads);
  const std::uint32_t width = std::min(heads_per_section_, total - first_head);
  const std::uint32_t within = index % per_section;
  const std::uint32_t head = first_head + within % width;
  const std::uint32_t block = within / width;
  const auto heads = static_cast<std::uint32_t>(attention_.heads);
  return {head / heads, head % heads,
          &query_tiles_[attention_.causal && !attention_.first_release ? blocks - 1 - block : block]};
}

std::uint64_t Flash3::kv_rows_in(std::uint32_t kv_tile) const {
  const std::uint64_t first = std::uint64_t{kv_tile} * tile_kv_;
  return std::min<std::uint64_t>(tile_kv_, static_cast<std::uint64_t>(attention_.kv_rows) - first);
}

tile::Outline Flash3::outline() const {
  tile::Outline o{.in_turn = true,
                  .key = fmt::format("{} {} {} {} {}", shape_.name, element_bytes_, attention_.partial,
                                     query_tiles_.front().rows, excerpt_of(query_tiles_, 48).unmasked_tiles)};
  add_pieces(o, query_tiles_, tile_kv_, attention_, element_bytes_, heads_per_section_, value_dim_,
             attention_.first_release);
  return o;
}

std::unique_ptr<tile::Kernel> Flash3::excerpt(std::uint32_t, std::uint32_t pieces,
                                              std::uint32_t trips) const {
  auto e = std::make_unique<Flash3>(*this);
  e->query_tiles_ = {excerpt_of(query_tiles_, trips)};
  e->attention_.batch = pieces;
  e->attention_.heads = e->attention_.kv_heads = 1;
  e->attention_.kv_rows = std::int64_t{trips} * tile_kv_;
  e->heads_per_section_ = 1;
  e->shape_.grid = 1;
  return e;
}

Program Flash3::program(tile::Cta cta, std::uint32_t role) const {
  return role == 0 ? producer(cta) : consumer(cta, role - 1);
}

Program Flash3::producer(tile::Cta cta) const {
  const auto row_bytes = static_cast<std::uint32_t>(attention_.head_dim) * element_bytes_;
  const std::uint64_t q_pitch = std::uint64_t{row_bytes} * static_cast<std::uint64_t>(attention_.heads);
  const std::uint32_t v_row_bytes = value_dim_ * element_bytes_;
  const auto group = static_cast<std::uint32_t>(attention_.heads / attention_.kv_heads);
  std::uint32_t stage = 0, phase = 0, tile_phase = 0, q_phase = 0;
  for (std::uint32_t index = cta.index;;) {
    const bool end = index >= tiles();
    co_await tile::wait(tile_empty(), tile_phase ^ 1U);
    handed_[cta.index] = end ? kEnd : index;
    co_await tile::arrive(tile_full());
    if (end) break;
    const Tile t = tile_at(index);
    tile_phase ^= 1U;
    if (co_await tile::item(t.query->alike()) != 0) {
      index = dynamic_ ? static_cast<std::uint32_t>(co_await tile::next_tile()) + shape_.grid
                       : index + shape_.grid;
      continue;
    }

    co_await tile::wait(q_empty(), q_phase ^ 1U);
    q_phase ^= 1U;
    const std::uint64_t q_row = t.batch * static_cast<std::uint64_t>(attention_.q_rows) + t.query->first_row;
    co_await tile::expect(q_full(), std::uint64_t{t.query->rows} * row_bytes);
    co_await tile::tma_load(
        Box{q_ + q_row * q_pitch + std::uint64_t{t.head} * row_bytes, t.query->rows, row_bytes, q_pitch},
        q_full());
    // From the diagonal down to the first keys, K one tile ahead of V.
    const auto kv_box = [&](std::uint64_t base, std::uint32_t n, std::uint32_t width) {
      const std::uint64_t row =
          t.batch * static_cast<std::uint64_t>(attention_.kv_rows) + std::uint64_t{n} * tile_kv_;
      const std::uint64_t pitch = std::uint64_t{width} * static_cast<std::uint64_t>(attention_.kv_heads);
      return Box{base + row * pitch + std::uint64_t{t.head / group} * width,
                 static_cast<std::uint32_t>(kv_rows_in(n)), width, pitch};
    };
    std::uint32_t v_stage = stage, v_phase = phase;
    for (std::uint32_t i = 0; i <= t.query->kv_tiles; ++i) {
      if (const std::uint32_t n = t.query->alike(i); n > 0)
        i += static_cast<std::uint32_t>(co_await tile::trip(n));
      if (i < t.query->kv_tiles) {
        const Box k = kv_box(k_, t.query->kv_tiles - 1 - i, row_bytes);
        co_await tile::wait(k_empty(stage), phase ^ 1U);
        co_await tile::expect(k_full(stage), k.bytes());
        co_await tile::tma_load(k, k_full(stage));
        if (++stage == kStages) {
          stage = 0;
          phase ^= 1U;
        }
      }
      if (i > 0) {
        const Box v = kv_box(v_, t.query->kv_tiles - i, v_row_bytes);
        co_await tile::wait(v_empty(v_stage), v_phase ^ 1U);
        co_await tile::expect(v_full(v_stage), v.bytes());
        co_await tile::tma_load(v, v_full(v_stage));
        if (++v_stage == kStages) {
          v_stage = 0;
          v_phase ^= 1U;
        }
      }
    }
    index =
        dynamic_ ? static_cast<std::uint32_t>(co_await tile::next_tile()) + shape_.grid : index + shape_.grid;
  }
}

Program Flash3::consumer(tile::Cta cta, std::uint32_t me) const {
  const auto d = static_cast<std::uint32_t>(attention_.head_dim);
  const std::uint32_t row_bytes = value_dim_ * element_bytes_;
  const std::uint64_t out_pitch = std::uint64_t{row_bytes} * static_cast<std::uint64_t>(attention_.heads);
  const std::uint64_t outputs = std::uint64_t{kWarpgroupRows} * value_dim_;
  const SoftmaxCost cost{tile_kv_, value_dim_};
  const std::uint64_t p_bytes = std::uint64_t{2} * kWarpgroupRows * tile_kv_;
  const std::uint32_t next = (me + 1) % consumers_;
  const auto my_turn = static_cast<std::uint8_t>(me), next_turn = static_cast<std::uint8_t>(next);
  std::uint32_t k_stage = 0, k_phase = 0, v_stage = 0, v_phase = 0, tile_phase = 0, q_phase = 0;
  if (turns_ && me == 0) co_await tile::named_arrive(0, 2);  // the first turn is consumer 0's

  for (;;) {
    co_await tile::wait(tile_full(), tile_phase);
    const std::uint32_t index = handed_[cta.index];
    co_await tile::arrive(tile_empty());
    if (index == kEnd) break;
    tile_phase ^= 1U;
    const Tile t = tile_at(index);
    if (co_await tile::item(t.query->alike()) != 0) continue;
    const std::uint32_t blocks = t.query->kv_tiles;
    const auto masked = [&](std::uint32_t i) { return i == 0 || blocks - 1 - i >= t.query->unmasked_tiles; };

    co_await tile::wait(q_full(), q_phase);
    q_phase ^= 1U;
    if (blocks > 0) {
      co_await tile::wait(k_full(k_stage), k_phase);
      co_await tile::wgmma(kWarpgroupRows, tile_kv_, d);  // S = Q K^T
      co_await tile::wgmma_wait(0);
      co_await tile::arrive(k_empty(k_stage));
      if (++k_stage == kStages) {
        k_stage = 0;
        k_phase ^= 1U;
      }
      co_await cost.mask();
      co_await cost.row_max();
      for (std::uint32_t e = 0; e < cost.parts(); ++e) co_await cost.exponentials(e);
      co_await cost.row_sum();
      co_await cost.rounding();
      if (!p_in_registers_) co_await tile::shared_store(p_bytes);
    }
    for (std::uint32_t i = 1; i < blocks; ++i) {
      if (const std::uint32_t n = t.query->alike(i); n > 0)
        i += static_cast<std::uint32_t>(co_await tile::trip(n));
      co_await tile::wait(k_full(k_stage), k_phase);
      if (turns_) co_await tile::named_sync(my_turn, 2);
      co_await tile::wgmma(kWarpgroupRows, tile_kv_, d);  // next S = Q K^T
      if (!turns_) co_await cost.rescale();
      co_await tile::wait(v_full(v_stage), v_phase);
      co_await tile::wgmma(kWarpgroupRows, value_dim_, tile_kv_, p_in_registers_);  // O += P V
      if (turns_) co_await tile::named_arrive(next_turn, 2);
      co_await tile::wgmma_wait(1);
      co_await tile::arrive(k_empty(k_stage));
      if (++k_stage == kStages) {
        k_stage = 0;
        k_phase ^= 1U;
      }
      if (masked(i)) co_await cost.mask();
      co_await cost.row_max();
      for (std::uint32_t e = 0; e < cost.parts(); ++e) co_await cost.exponentials(e);
      co_await cost.row_sum();
      co_await tile::wgmma_wait(0);
      co_await tile::arrive(v_empty(v_stage));
      if (++v_stage == kStages) {
        v_stage = 0;
        v_phase ^= 1U;
      }
      co_await cost.rounding();
      if (!p_in_registers_) co_await tile::shared_store(p_bytes);
      if (turns_) co_await cost.rescale();
    }
    co_await tile::arrive(q_empty());
    if (blocks > 0) {
      if (!turns_ && blocks > 1) co_await cost.rescale();
      co_await tile::wait(v_full(v_stage), v_phase);
      co_await tile::wgmma(kWarpgroupRows, value_dim_, tile_kv_, p_in_registers_);
      co_await cost.finalize();
      co_await tile::wgmma_wait(0);
      co_await tile::arrive(v_empty(v_stage));
      if (++v_stage == kStages) {
        v_stage = 0;
        v_phase ^= 1U;
      }
      co_await cost.rescale();
    }

    // Epilogue: round and store the rows that exist.
    co_await cost.output_rounding();
    const std::uint32_t first = me * kWarpgroupRows;
    if (first < t.query->rows) {
      const std::uint32_t rows = std::min(kWarpgroupRows, t.query->rows - first);
      const std::uint64_t row =
          t.batch * static_cast<std::uint64_t>(attention_.q_rows) + t.query->first_row + first;
      co_await tile::store_wait();
      co_await tile::shared_store(outputs * element_bytes_);
      co_await tile::tma_store(
          Box{out_ + row * out_pitch + std::uint64_t{t.head} * row_bytes, rows, row_bytes, out_pitch});
      if (attention_.partial) {
        // (max, expsum) per row and head, fp32, [rows, heads, 2].
        const std::uint64_t stats_pitch = static_cast<std::uint64_t>(attention_.heads) * 8;
        co_await tile::store(
            Box{stats_ + row * stats_pitch + std::uint64_t{t.head} * 8, rows, 8, stats_pitch});
      }
    }
  }
  co_await tile::store_wait();
}

}  // namespace tessera::kernels
