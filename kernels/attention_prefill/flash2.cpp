#include "kernels/attention_prefill/flash2.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "kernels/attention_prefill/softmax_cost.hpp"

namespace tessera::kernels {

using tile::Box;

namespace {
constexpr std::uint8_t kQ = 0, kK = 1, kV = 2;
constexpr std::uint8_t kAll = 1;         // named barrier
constexpr std::uint32_t kMmaDepth = 16;  // of mma.sync m16n8k16
}  // namespace

Flash2::Flash2(const models::Attention& attention, const GpuSpec& gpu, const Addresses& addresses,
               const FlashBetween& between)
    : heads_{static_cast<std::uint32_t>(attention.heads)},
      kv_heads_{static_cast<std::uint32_t>(attention.kv_heads)},
      head_dim_{static_cast<std::uint32_t>(attention.head_dim)},
      causal_{attention.causal},
      element_bytes_{static_cast<std::uint32_t>(models::bytes_of(attention.dtype))},
      q_{addresses.operands.at(0)},
      k_{addresses.operands.at(1)},
      v_{addresses.operands.at(2)},
      out_{addresses.operands.at(3)},
      between_{between} {
  if (attention.partial) {
    stats_ = addresses.operands.at(4);
    stats_bytes_ = models::kStatsBytes;
  }
  lay_out(gpu);
  query_tiles_ = query_tiles(attention, tile_q_, tile_kv_);
  blocks_ = static_cast<std::uint32_t>(query_tiles_.size());
  for (std::int64_t b = 0; b < attention.batch; ++b) {
    sequences_.push_back(
        {static_cast<std::uint64_t>(b * attention.q_rows), static_cast<std::uint64_t>(b * attention.kv_rows),
         static_cast<std::uint32_t>(attention.q_rows), static_cast<std::uint32_t>(attention.kv_rows)});
  }
  shape_.name =
      fmt::format("flash2 {}x{} d{}{}", tile_q_, tile_kv_, head_dim_, attention.causal ? " causal" : "");
  shape_.grid = blocks_ * heads_ * static_cast<std::uint32_t>(attention.batch);
  for (const QueryTile& q : query_tiles_) shape_.trips += q.alike();
  shape_.trips *= static_cast<std::uint64_t>(attention.batch * attention.heads);
  shape_.even_trips = shape_.trips;
}

Flash2::Flash2(const FlashVarlen& call, const GpuSpec& gpu)
    : heads_{static_cast<std::uint32_t>(call.heads)},
      kv_heads_{static_cast<std::uint32_t>(call.kv_heads)},
      head_dim_{static_cast<std::uint32_t>(call.head_dim)},
      causal_{call.causal},
      element_bytes_{call.element_bytes},
      q_{call.q},
      k_{call.k},
      v_{call.v},
      out_{call.out},
      stats_{call.lse},
      stats_bytes_{4},
      varlen_{true},
      between_{.read = call.between_read, .written = call.between_written},
      sequences_{call.sequences} {
  lay_out(gpu);
  blocks_ = static_cast<std::uint32_t>((call.longest_q + tile_q_ - 1) / tile_q_);
  shape_.name = call.name;
  shape_.grid = blocks_ * heads_ * static_cast<std::uint32_t>(sequences_.size());
  for (const FlashSequence& s : sequences_) {
    for (std::uint32_t b = 0; b * tile_q_ < s.q_rows; ++b) shape_.trips += query_tile(s, b).alike() * heads_;
  }
  shape_.even_trips = shape_.trips;
}

void Flash2::lay_out(const GpuSpec& gpu) {
  // csrc/flash_attn/src/flash_fwd_launch_template.h. Heads of 256: 64 rows and four warps where two such CTAs
  // share an SM, else 128 rows and eight.
  if (head_dim_ <= 64) tile_kv_ = 128;
  const auto shared = [&](std::int64_t rows) { return (rows + 2 * tile_kv_) * head_dim_ * element_bytes_; };
  if (head_dim_ > 192 && (2 * shared(64) <= gpu.sm.shared_bytes || shared(128) > gpu.sm.shared_bytes_per_cta))
    tile_q_ = 64;
  else if (head_dim_ > 128)
    groups_ = 2;
  if (groups_ == 1)
    shape_.roles = {{"warps", 4}};
  else
    shape_.roles = {{"warps0-3", 4}, {"warps4-7", 4}};
  // Stand for cp.async groups; all warps copy.
  shape_.barriers = {{"q", groups_}, {"k", groups_}, {"v", groups_}};
  shape_.registers_per_cta = std::min<std::int64_t>(gpu.sm.registers / 2, 128 * 255) * groups_;
  shape_.shared_bytes = shared(tile_q_);
  shape_.prologue_cycles = 200;
  l2_bytes_ = gpu.l2.bytes;
}

QueryTile Flash2::query_tile(const FlashSequence& s, std::uint32_t block) const {
  if (!varlen_) return query_tiles_[block];
  QueryTile t{.first_row = block * tile_q_};
  if (t.first_row >= s.q_rows) return t;
  t.rows = std::min(tile_q_, s.q_rows - t.first_row);
  const std::uint32_t most = causal_ ? t.first_row + t.rows : s.kv_rows;
  t.kv_tiles = (most + tile_kv_ - 1) / tile_kv_;
  t.unmasked_tiles = (causal_ ? t.first_row + 1 : s.kv_rows) / tile_kv_;
  return t;
}

Flash2::Tile Flash2::tile_at(std::uint32_t index) const {
  // The grid is (query tiles, sequences, heads), tiles from the first: with a causal mask the longest come
  // last (flash_fwd_kernel.h, compute_attn: m_block = blockIdx.x).
  const std::uint32_t block = index % blocks_;
  const auto sequences = static_cast<std::uint32_t>(sequences_.size());
  const std::uint32_t sequence = index / blocks_ % sequences, head = index / blocks_ / sequences;
  const FlashSequence& s = sequences_[sequence];
  const QueryTile query = query_tile(s, block);
  return {query, s.first_q + query.first_row, s.first_kv, s.kv_rows, head};
}

tile::Outline Flash2::outline() const {
  tile::Outline o;
  const std::uint64_t row_bytes = std::uint64_t{head_dim_} * element_bytes_;
  // Whole calls: the tiles of one head of one sequence, then the next head's, the longest of each head last.
  const auto rounds = varlen_ ? std::uint64_t{1} : std::uint64_t{heads_} * sequences_.size();
  o.rounds = rounds;
  const auto add = [&](std::uint64_t count, std::uint32_t trips) {
    if (count == 0) return;
    if (!o.pieces.empty() && o.pieces.back().trips == trips)
      o.pieces.back().count += count / rounds;
    else
      o.pieces.push_back({count / rounds, trips});
  };
  for (std::size_t i = 0; i < sequences_.size();) {
    // Sequences of the same lengths together.
    const FlashSequence& s = sequences_[i];
    std::uint64_t alike = 0;
    for (; i < sequences_.size() && sequences_[i].q_rows == s.q_rows && sequences_[i].kv_rows == s.kv_rows;
         ++i)
      alike += heads_;
    const std::uint32_t used = varlen_ ? (s.q_rows + tile_q_ - 1) / tile_q_ : blocks_;
    for (std::uint32_t n = 0; n < used; ++n) {
      const QueryTile t = query_tile(s, n);
      const bool many = varlen_ && !causal_ && t.rows == tile_q_;
      const std::uint64_t count = many ? alike * (s.q_rows / tile_q_) : alike;
      if (many) n = s.q_rows / tile_q_ - 1;
      add(count, t.kv_tiles);
      const std::uint64_t keys = std::min<std::uint64_t>(std::uint64_t{t.kv_tiles} * tile_kv_, s.kv_rows);
      o.load_bytes += count * (t.rows + 2 * keys) * row_bytes;
      // With a causal mask CTAs differ in length, so that they soon start one after another, evenly: between
      // two that read the same keys all the others have read as much as either sees. Where the L2 does not
      // hold that, it all comes from HBM.
      if (causal_ && 2 * keys * row_bytes > static_cast<std::uint64_t>(l2_bytes_))
        o.reread_bytes += count * 2 * keys * row_bytes;
      o.store_bytes += count * t.rows * (row_bytes + stats_bytes_);
    }
    add(alike * (blocks_ - used), 0);
  }
  o.key = fmt::format("flash2 {} {} {} {} {} ", tile_q_, tile_kv_, head_dim_, element_bytes_, stats_bytes_);
  o.key += varlen_
               ? fmt::format("varlen {}", causal_)
               : fmt::format("{} {}", query_tiles_.front().rows, excerpt_of(query_tiles_, 48).unmasked_tiles);
  if (o.reread_bytes > 0) o.rereads = 2;
  o.operand_bytes = between_.operand_bytes;
  o.between_read = between_.read;
  o.between_written = between_.written;
  return o;
}

std::unique_ptr<tile::Kernel> Flash2::excerpt(std::uint32_t ctas, std::uint32_t, std::uint32_t trips) const {
  auto e = std::make_unique<Flash2>(*this);
  const std::uint32_t masked = causal_ ? (tile_q_ + tile_kv_ - 1) / tile_kv_ : 0;
  const std::uint32_t rows = varlen_ ? (trips == 0 ? 0 : tile_q_) : query_tiles_.front().rows;
  e->query_tiles_ = {{.rows = rows, .kv_tiles = trips, .unmasked_tiles = trips - std::min(trips, masked)}};
  if (!varlen_) e->query_tiles_ = {excerpt_of(query_tiles_, trips)};
  e->varlen_ = false;
  e->heads_ = e->kv_heads_ = e->blocks_ = 1;
  e->sequences_.assign(ctas, {0, 0, tile_q_, trips * tile_kv_});
  e->shape_.grid = ctas;
  return e;
}

tile::Program Flash2::program(tile::Cta cta, std::uint32_t group) const {
  const std::uint32_t d = head_dim_, row_bytes = d * element_bytes_;
  const std::uint64_t q_pitch = std::uint64_t{row_bytes} * heads_,
                      kv_pitch = std::uint64_t{row_bytes} * kv_heads_;
  const Tile tile = tile_at(cta.index);
  const QueryTile& query = tile.query;
  const std::uint32_t kv_head = tile.head / (heads_ / kv_heads_);
  if (query.rows == 0) {  // has read where its sequence begins and ends
    if (group > 0) co_return;
    co_await tile::load(Box{q_, 1, 8, 8});
    co_await tile::load_wait();
    co_return;
  }
  // This group's part of the rows of a tile: its first one and how many.
  const auto part = [&](std::uint32_t rows) {
    const std::uint32_t from = group * rows / groups_;
    return std::pair{from, (group + 1) * rows / groups_ - from};
  };
  const auto kv_box = [&](std::uint64_t base, std::uint32_t n) {
    const auto [from, rows] = part(static_cast<std::uint32_t>(
        std::min<std::uint64_t>(tile_kv_, tile.kv_rows - std::uint64_t{n} * tile_kv_)));
    const std::uint64_t row = tile.kv_row + std::uint64_t{n} * tile_kv_ + from;
    return Box{base + row * kv_pitch + std::uint64_t{kv_head} * row_bytes, rows, row_bytes, kv_pitch};
  };
  const std::uint32_t tile_rows = tile_q_ / groups_;
  const std::uint64_t scores = std::uint64_t{tile_rows} * tile_kv_, outputs = std::uint64_t{tile_rows} * d;
  // Every warp owns 16 or 32 rows and so reads the whole K (V) tile through ldmatrix; Q too, its own rows,
  // for every key tile: it is not kept in registers.
  const std::uint64_t operand_bytes = std::uint64_t{4} * tile_kv_ * row_bytes;
  // Fragments that come before the first product. Where two CTAs share the SM all do, beside the other's
  // products; a CTA alone has them a step of 16 columns ahead of its own.
  const auto ahead = [&](std::uint64_t bytes, std::uint32_t depth) {
    return groups_ == 1 ? bytes : bytes / (depth / kMmaDepth);
  };

  // A thread has a quarter of the columns of four rows (of two, with 16 a warp): chains that no lane
  // shortens.
  const std::uint64_t reduction = std::uint64_t{tile_kv_} / 4 * kAluLatency;

  if (co_await tile::item(query.alike()) != 0) co_return;
  const auto [first_row, rows] = part(query.rows);
  const std::uint64_t q_row = tile.q_row + first_row;
  const Box q_box{q_ + q_row * q_pitch + std::uint64_t{tile.head} * row_bytes, rows, row_bytes, q_pitch};
  co_await tile::expect(kQ, q_box.bytes());
  if (rows > 0) co_await tile::async_load(q_box, kQ);
  if (query.kv_tiles > 0) {
    const Box box = kv_box(k_, query.kv_tiles - 1);
    co_await tile::expect(kK, box.bytes());
    if (box.rows > 0) co_await tile::async_load(box, kK);
  }
  co_await tile::wait(kQ, 0);
  for (std::uint32_t i = 0, made = 0; i < query.kv_tiles; ++i, ++made) {
    // K of the next tile is on its way: it stands for that of the tile gone on with.
    if (const std::uint32_t alike = query.alike(i); alike > 0)
      i += static_cast<std::uint32_t>(co_await tile::trip(alike));
    const std::uint32_t n = query.kv_tiles - 1 - i;
    co_await tile::wait(kK, made);
    // __syncthreads: the other half has read the tile whose place the next copy takes.
    if (groups_ > 1) co_await tile::named_sync(kAll, groups_);
    const Box v_box = kv_box(v_, n);
    co_await tile::expect(kV, v_box.bytes());
    if (v_box.rows > 0) co_await tile::async_load(v_box, kV);
    // S = Q K^T.
    const std::uint64_t qk_bytes = operand_bytes + outputs * element_bytes_;
    const std::uint64_t qk_first = ahead(qk_bytes, d);
    co_await tile::shared_load(qk_first);
    co_await tile::mma(tile_rows, tile_kv_, d, qk_bytes - qk_first);
    co_await tile::wait(kV, made);
    if (groups_ > 1) co_await tile::named_sync(kAll, groups_);
    if (n > 0) {
      const Box box = kv_box(k_, n - 1);
      co_await tile::expect(kK, box.bytes());
      if (box.rows > 0) co_await tile::async_load(box, kK);
    }
    if (n >= query.unmasked_tiles) co_await tile::compute({.integer = 2 * scores});
    // Row maxima, over columns and lanes, and the factor for what was summed so far; exponentials; row sums,
    // the rescaled output, P in bf16.
    co_await tile::compute({.integer = scores,
                            .mufu = std::uint64_t{tile_rows} * 4,
                            .shuffle = std::uint64_t{4} * tile_rows * 2},
                           reduction + 2 * (kShuffleLatency + kAluLatency) + 2 * kAluLatency + kMufuLatency);
    co_await tile::compute({.fma = scores, .mufu = scores}, kAluLatency + kMufuLatency);
    co_await tile::compute({.fma = scores + outputs, .convert = scores / 2}, reduction);
    // O += P V.
    const std::uint64_t v_first = ahead(operand_bytes, tile_kv_);
    co_await tile::shared_load(v_first);
    co_await tile::mma(tile_rows, d, tile_kv_, operand_bytes - v_first);
  }
  co_await tile::compute({.fma = outputs, .mufu = std::uint64_t{tile_rows} * 4, .convert = outputs / 2});
  co_await tile::shared_store(outputs * element_bytes_);
  co_await tile::shared_load(outputs * element_bytes_);
  if (rows == 0) co_return;
  co_await tile::store(
      Box{out_ + q_row * q_pitch + std::uint64_t{tile.head} * row_bytes, rows, row_bytes, q_pitch});
  if (stats_bytes_ > 0) {
    const std::uint64_t stats_pitch = std::uint64_t{heads_} * stats_bytes_;
    co_await tile::store(Box{stats_ + q_row * stats_pitch + std::uint64_t{tile.head} * stats_bytes_, rows,
                             stats_bytes_, stats_pitch});
  }
}

}  // namespace tessera::kernels
