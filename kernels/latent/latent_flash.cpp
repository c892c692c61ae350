#include "kernels/latent/latent_flash.hpp"

#include <fmt/format.h>

#include "kernels/attention_paged/search_cost.hpp"

namespace tessera::kernels {

using tile::Box;
using tile::Program;

namespace {

constexpr std::uint32_t kTileRows = kWarpgroupRows, kTileKeys = 64;  // hopper/tile_size.h
// What one instruction of a warpgroup stores, 16 B a thread. More than a few are not taken on at once.
constexpr std::uint32_t kStoreBytes = 2048;
// Named barriers: P is there, P may be overwritten, both consumers.
constexpr std::uint8_t kProbabilitiesFull = 1, kProbabilitiesEmpty = 2, kStore = 8;

std::uint32_t ceil_div(std::uint32_t a, std::uint32_t b) { return (a + b - 1) / b; }
std::uint8_t at(int first, std::uint32_t stage) {
  return static_cast<std::uint8_t>(first + static_cast<int>(stage));
}

/// setmaxnreg leaves the producer 40 registers a thread, 24 where K and V come by TMA
/// (hopper/flash_fwd_kernel_sm90.h). Taken to be spilled, and to cost alike: the 16 registers between the 56
/// and the 40 of the two fitted times, and the next 16.
std::uint32_t search_cycles(const Flash3Spec& f, bool tma) {
  const double few = f.tile_search_few_registers_cycles;
  return static_cast<std::uint32_t>(tma ? std::max(few, 2 * few - f.tile_search_cycles) : few);
}

/// What the next instruction stores of `rest`.
Box take(Box& rest) {
  Box first = rest;
  first.rows = std::min(rest.rows, std::max(1U, kStoreBytes / rest.row_bytes));
  rest.rows -= first.rows;
  rest.address += first.rows * rest.pitch;
  return first;
}

struct Ring {
  std::uint32_t stage = 0, phase = 0;
  void next() {
    stage ^= 1U;
    phase ^= stage == 0 ? 1U : 0U;
  }
};

}  // namespace

PagedSchedule latent_schedule_of(const PagedCall& call, std::int64_t sms) {
  PagedSchedule s{.tile_q = kTileRows, .tile_kv = kTileKeys, .longest_first = call.causal};
  choose_splits(s, call, sms);
  return s;
}

LatentFlash::LatentFlash(const LatentCall& call, const PagedSchedule& schedule, const GpuSpec& gpu)
    : at_{call},
      schedule_{schedule},
      sequences_{static_cast<std::uint32_t>(call.call.batch)},
      heads_{static_cast<std::uint32_t>(call.call.heads)},
      latent_{static_cast<std::uint32_t>(call.call.head_dim)},
      element_bytes_{static_cast<std::uint32_t>(call.call.element_bytes)},
      by_heads_{heads_},
      tma_{packed_rows() > kTileRows},
      search_{search_cycles(gpu.flash3, tma_)},
      copy_chunk_{static_cast<std::uint32_t>(gpu.flash3.copy_chunk_cycles)} {
  shape_.name = fmt::format("flash3 latent {}+{}{}{}{}", latent_, call.rope, tma_ ? " tma" : "",
                            call.call.causal ? " causal" : "",
                            schedule_.most_splits > 1 ? fmt::format(" splits {}", schedule_.splits) : "");
  shape_.grid = static_cast<std::uint32_t>(gpu.sms());
  shape_.roles = {{"producer", 4}, {"consumer0", 4}, {"consumer1", 4}};
  shape_.registers_per_cta = gpu.sm.registers;
  const std::int64_t row = std::int64_t{latent_ + call.rope} * element_bytes_;
  shape_.shared_bytes = kTileRows * row + 2 * kTileKeys * row +
                        std::int64_t{kTileRows} * kTileKeys * element_bytes_ + 2 * 4 * kTileRows;
  shape_.barriers = {{"q_full", 1},
                     {"qv_full", 1},
                     {"q_empty", 1},
                     {"tile_full", 1},
                     {"tile_empty", 2},
                     {"tile_asked", 2},
                     {"o_empty", 2},
                     {"k_full[0]", 1},
                     {"k_full[1]", 1},
                     {"k_empty[0]", 1},
                     {"k_empty[1]", 1},
                     {"v_full[0]", 1},
                     {"v_full[1]", 1},
                     {"v_empty[0]", kConsumers},
                     {"v_empty[1]", kConsumers}};
  shape_.prologue_cycles = 500;  // mbarrier initialisation, setmaxnreg
  shape_.launched_beside = schedule_.overlapped;
  handed_.resize(shape_.grid, kEnd);
  for_each_tile([&](const Tile& t) { shape_.trips += t.alike(); });
  shape_.trips *= sequences_;
  shape_.even_trips =
      schedule_.longest_first ? shape_.trips : shape_.trips * (tiles() / shape_.grid * shape_.grid) / tiles();
}

LatentFlash::Tile LatentFlash::tile_at(std::uint32_t index) const {
  const std::uint32_t within = index % tiles_per_sequence(), m_tiles = schedule_.query_tiles;
  Tile t = schedule_.longest_first
               ? tile_of(m_tiles - 1 - within / schedule_.splits, within % schedule_.splits)
               : tile_of(within % m_tiles, within / m_tiles);
  t.batch = index / tiles_per_sequence();
  return t;
}

LatentFlash::Tile LatentFlash::tile_of(std::uint32_t block, std::uint32_t split) const {
  Tile t{};
  t.split = split;
  t.first_row = block * kTileRows;
  t.rows = std::min(kTileRows, packed_rows() - t.first_row);
  const auto least = static_cast<std::uint32_t>(at_.call.visible(by_heads_(t.first_row)));
  const auto most = static_cast<std::uint32_t>(at_.call.visible(by_heads_(t.first_row + t.rows - 1)));
  const std::uint32_t kv_tiles = ceil_div(most, kTileKeys),
                      share = schedule_.splits > 1 ? ceil_div(kv_tiles, schedule_.splits) : kv_tiles;
  t.kv_first = std::min(kv_tiles, split * share);
  t.kv_last = std::min(kv_tiles, t.kv_first + share);
  t.unmasked = least / kTileKeys;
  return t;
}

Box LatentFlash::cache_box(const Tile& t, std::uint32_t kv_tile, std::uint32_t column,
                           std::uint32_t columns) const {
  const std::uint64_t pitch = std::uint64_t{latent_ + at_.rope} * element_bytes_;
  const std::uint64_t first = std::uint64_t{kv_tile} * kTileKeys;
  const auto context = static_cast<std::uint64_t>(at_.call.context);
  return Box{at_.cache + (t.batch * context + first) * pitch + std::uint64_t{column} * element_bytes_,
             static_cast<std::uint32_t>(std::min<std::uint64_t>(kTileKeys, context - first)),
             columns * element_bytes_, pitch};
}

std::uint64_t LatentFlash::copy_cycles(std::uint32_t rows, std::uint32_t row_bytes) const {
  return std::uint64_t{ceil_div(rows, kRowsPerPass)} * ceil_div(row_bytes, kBytesPerPass) * copy_chunk_;
}

tile::Outline LatentFlash::outline() const {
  // Sequences are equal: a round is one sequence's tiles, or all of them where they are alike.
  const std::uint32_t m_tiles = schedule_.query_tiles, splits = schedule_.splits;
  tile::Outline o{.rounds = m_tiles > 1 ? sequences_ : 1, .in_turn = true};
  const std::uint64_t count = m_tiles > 1 ? 1 : sequences_;
  const std::uint64_t row_bytes = std::uint64_t{latent_ + at_.rope} * element_bytes_;
  const std::uint64_t out_bytes =
      splits > 1 ? std::uint64_t{latent_} * 4 + 4
                 : std::uint64_t{latent_} * element_bytes_ + (at_.max_expsum != 0 ? 8 : 4);
  const auto context = static_cast<std::uint64_t>(at_.call.context);
  std::uint64_t loaded_rows = 0, stored_rows = 0;
  for_each_tile([&](const Tile& t) {
    if (t.blocks() == 0) return;  // a split that has no keys is told at once
    if (!o.pieces.empty() && o.pieces.back().trips == t.blocks())
      o.pieces.back().count += count;
    else
      o.pieces.push_back({count, t.blocks()});
    const std::uint64_t keys = std::min<std::uint64_t>(std::uint64_t{t.kv_last} * kTileKeys, context) -
                               std::uint64_t{t.kv_first} * kTileKeys;
    loaded_rows += t.rows + keys;
    stored_rows += t.rows;
  });
  o.load_bytes = sequences_ * loaded_rows * row_bytes;
  o.store_bytes = sequences_ * stored_rows * out_bytes;
  o.key =
      fmt::format("flash3 latent {} {} {} {} {} {} {} {} {} {} {}", latent_, at_.rope, element_bytes_, tma_,
                  at_.call.causal, heads_, std::min(packed_rows(), kTileRows), excerpt_sequences_per_turn(),
                  splits > 1, at_.max_expsum != 0, context < 2 * kTileKeys ? context % kTileKeys : 0);
  return o;
}

std::unique_ptr<tile::Kernel> LatentFlash::excerpt(std::uint32_t, std::uint32_t pieces,
                                                   std::uint32_t trips) const {
  auto e = std::make_unique<LatentFlash>(*this);
  const std::uint32_t splits = std::min(schedule_.splits, 2U);
  e->schedule_.splits = splits;
  e->schedule_.query_tiles = 1;
  // Each tile of the CTA is as many sequences further on as in the whole kernel, as far as the search tells.
  e->sequences_ = pieces * excerpt_sequences_per_turn();
  e->shape_.grid = excerpt_sequences_per_turn() * splits;
  // Where in a line the tables begin is the allocator's choice: here each has its own.
  for (std::uint64_t* table : {&e->at_.pages, &e->at_.lengths, &e->at_.schedule})
    *table -= *table % tile::kLineBytes;
  e->handed_.assign(e->shape_.grid, kEnd);
  PagedCall& c = e->at_.call;
  const std::int64_t whole = std::int64_t{trips} * splits * kTileKeys, part = c.context % kTileKeys;
  c.context = c.context < 2 * kTileKeys && part > 0 ? whole - kTileKeys + part : whole;
  c.new_rows = std::min<std::int64_t>({c.new_rows, ceil_div(kTileRows, heads_), c.context});
  c.batch = e->sequences_;
  return e;
}

Program LatentFlash::program(tile::Cta cta, std::uint32_t role) const {
  return role == 0 ? producer(cta) : role == 1 ? scorer(cta) : multiplier(cta);
}

Program LatentFlash::producer(tile::Cta cta) const {
  Ring k, v;
  std::uint32_t parity = 0, work_parity = 0, sequence = 0, known = kEnd;
  for (std::uint32_t index = cta.index;; parity ^= 1U) {
    // The search goes through the sequences in steps; each reads its numbers of tiles (and splits).
    const bool end = index >= tiles();
    const std::uint32_t target = end ? sequences_ : index / tiles_per_sequence();
    for (;;) {
      const std::uint32_t line = sequence / kSequencesPerStep;
      if (line != known) {
        co_await tile::load(
            Box{at_.schedule + std::uint64_t{line} * 4 * kSequencesPerStep, 1, 4 * kSequencesPerStep, 0});
        co_await tile::load_wait();
      }
      co_await tile::chain(kSearchStep + (line == known ? kL1Hit : 0));
      known = line;
      if (target < sequence + kSequencesPerStep || sequence + kSequencesPerStep >= sequences_) break;
      sequence += kSequencesPerStep;
    }
    if (!end) co_await tile::chain(search_);
    co_await tile::wait(tile_empty, parity ^ 1U);
    co_await tile::wait(tile_asked, parity);  // three of the four warps learn of the tile with the consumers
    handed_[cta.index] = end ? kEnd : index;
    co_await tile::arrive(tile_full);
    if (end) break;
    const Tile t = tile_at(index);
    sequence = t.batch;
    if (co_await tile::item(t.alike()) != 0) {
      index = static_cast<std::uint32_t>(co_await tile::next_tile()) + shape_.grid;
      continue;
    }
    // The sequence's place in the sorted order, then its lengths.
    co_await tile::load(Box{at_.schedule + std::uint64_t{t.batch} * 4, 1, 4, 0});
    co_await tile::load_wait();
    co_await tile::load(Box{at_.lengths + std::uint64_t{t.batch} * 4, 1, 4, 0});
    co_await tile::load_wait();
    co_await tile::chain(kTileSetup);
    if (t.blocks() == 0) {
      index = static_cast<std::uint32_t>(co_await tile::next_tile()) + shape_.grid;
      continue;
    }
    std::uint64_t page_line = 0;
    for (std::uint32_t i = 0; i < t.blocks(); ++i) {
      if (const std::uint32_t n = t.alike(i); n > 0) i += static_cast<std::uint32_t>(co_await tile::trip(n));
      const std::uint32_t n = t.kv_last - 1 - i;
      const std::uint64_t page = at_.pages + 4 * (t.batch * static_cast<std::uint64_t>(at_.call.pages()) +
                                                  std::uint64_t{n} * kTileKeys / models::kPageRows);
      if (const std::uint64_t line = page / tile::kLineBytes; line != page_line) {
        co_await tile::load(Box{page, 1, 4, 0});
        co_await tile::load_wait();
        page_line = line;
      } else {
        co_await tile::chain(kL1Hit);
      }
      if (!tma_) co_await tile::chain(kPagePointers);
      const Box k_box = cache_box(t, n, latent_, at_.rope), v_box = cache_box(t, n, 0, latent_);
      co_await tile::wait(at(k_empty, k.stage), k.phase ^ 1U);
      co_await tile::expect(at(k_full, k.stage), k_box.bytes());
      if (tma_)
        co_await tile::tma_load(k_box, at(k_full, k.stage));
      else
        co_await tile::async_load(k_box, at(k_full, k.stage), copy_cycles(k_box.rows, k_box.row_bytes));
      k.next();
      if (i == 0) {
        co_await tile::wait(q_empty, work_parity ^ 1U);
        co_await tile::chain(kPagePointers);  // which query row and head a packed row is
        const std::uint64_t row = std::uint64_t{t.batch} * packed_rows() + t.first_row;
        const std::uint32_t rope_bytes = at_.rope * element_bytes_, latent_bytes = latent_ * element_bytes_;
        co_await tile::expect(q_full, std::uint64_t{t.rows} * rope_bytes);
        co_await tile::async_load(Box{at_.q_rope + row * rope_bytes, t.rows, rope_bytes, rope_bytes}, q_full,
                                  copy_cycles(t.rows, rope_bytes));
        co_await tile::expect(qv_full, std::uint64_t{t.rows} * latent_bytes);
        co_await tile::async_load(Box{at_.q_latent + row * latent_bytes, t.rows, latent_bytes, latent_bytes},
                                  qv_full, copy_cycles(t.rows, latent_bytes));
        co_await tile::wait(o_empty, work_parity ^ 1U);
      }
      co_await tile::wait(at(v_empty, v.stage), v.phase ^ 1U);
      co_await tile::expect(at(v_full, v.stage), v_box.bytes());
      if (tma_)
        co_await tile::tma_load(v_box, at(v_full, v.stage));
      else
        co_await tile::async_load(v_box, at(v_full, v.stage), copy_cycles(kTileKeys, v_box.row_bytes));
      v.next();
    }
    co_await tile::prefetch_tile();
    work_parity ^= 1U;
    index = static_cast<std::uint32_t>(co_await tile::next_tile()) + shape_.grid;
  }
}

Box LatentFlash::output(const Tile& t, std::uint32_t me) const {
  const std::uint64_t row = std::uint64_t{t.batch} * packed_rows() + t.first_row;
  if (schedule_.splits > 1) {  // each warpgroup its columns, in fp32
    const std::uint64_t rows = static_cast<std::uint64_t>(sequences_) * packed_rows();
    const std::uint32_t half = latent_ / 2 * 4;
    return Box{at_.partials + ((t.split * rows + row) * 2 + me) * half, t.rows, half,
               std::uint64_t{2} * half};
  }
  // From shared memory, each warpgroup half of the rows.
  const std::uint32_t bytes = latent_ * element_bytes_, upper = t.rows / 2;
  return me == 0 ? Box{at_.out + row * bytes, t.rows - upper, bytes, bytes}
                 : Box{at_.out + (row + t.rows - upper) * bytes, upper, bytes, bytes};
}

Program LatentFlash::scorer(tile::Cta cta) const {
  const std::uint32_t half = latent_ / 2;
  const SoftmaxCost cost{kTileKeys, half};
  const std::uint64_t p_bytes = std::uint64_t{kTileRows} * kTileKeys * element_bytes_;
  const std::uint64_t scale_bytes = std::uint64_t{4} * kTileRows;
  const bool split = schedule_.splits > 1;
  Ring k, v;
  std::uint32_t parity = 0, tile_parity = 0;
  co_await tile::arrive(tile_asked);
  co_await tile::wait(tile_full, tile_parity);
  for (std::uint32_t index = handed_[cta.index];;) {
    co_await tile::arrive(tile_empty);
    tile_parity ^= 1U;
    if (index == kEnd) break;
    const Tile t = tile_at(index);
    if (co_await tile::item(t.alike()) != 0) {
      co_await tile::arrive(tile_asked);
      co_await tile::wait(tile_full, tile_parity);
      index = handed_[cta.index];
      continue;
    }
    co_await tile::chain(kTileSetup);
    const std::uint32_t blocks = t.blocks();
    if (blocks > 0) co_await tile::wait(q_full, parity);
    for (std::uint32_t i = 0; i < blocks; ++i) {
      if (const std::uint32_t n = t.alike(i); n > 0) i += static_cast<std::uint32_t>(co_await tile::trip(n));
      co_await tile::wait(at(k_full, k.stage), k.phase);
      co_await tile::wgmma(kTileRows, kTileKeys, at_.rope);  // S = Q_r K^T
      if (i == 0) co_await tile::wait(qv_full, parity);
      co_await tile::wait(at(v_full, v.stage), v.phase);
      co_await tile::wgmma(kTileRows, kTileKeys, latent_);  // S += Q_l V^T
      co_await tile::wgmma_wait(1);
      co_await tile::arrive(at(k_empty, k.stage));
      k.next();
      co_await tile::wgmma_wait(0);
      if (t.masked(i)) co_await cost.mask();
      co_await cost.row_max();
      if (i > 0) co_await tile::shared_store(scale_bytes);
      for (unsigned e = 0; e < cost.parts(); ++e) co_await cost.exponentials(e);
      co_await cost.row_sum();
      co_await cost.rounding();
      co_await tile::named_sync(kProbabilitiesEmpty, 2);
      co_await tile::shared_store(p_bytes);
      if (i > 0) co_await cost.rescale();
      co_await tile::wgmma(kTileRows, half, kTileKeys, true);  // O += P V, from registers
      co_await tile::named_arrive(kProbabilitiesFull, 2);
      co_await tile::wgmma_wait(0);
      co_await tile::arrive(at(v_empty, v.stage));
      v.next();
    }
    if (blocks > 0) {
      co_await tile::arrive(q_empty);
      co_await cost.finalize();
      co_await tile::named_sync(kProbabilitiesEmpty, 2);
      co_await tile::shared_store(scale_bytes);
      co_await tile::named_arrive(kProbabilitiesFull, 2);
      co_await cost.rescale();
      parity ^= 1U;
    }
    // The next tile must be known before this one is stored.
    co_await tile::arrive(tile_asked);
    co_await tile::wait(tile_full, tile_parity);
    index = handed_[cta.index];
    co_await tile::named_sync(kStore, kConsumers);  // both have read V, whose place the output takes
    if (!split) {
      co_await cost.output_rounding();
      co_await tile::shared_store(cost.outputs() * element_bytes_);
      co_await tile::named_sync(kStore, kConsumers);
      co_await tile::shared_load(cost.outputs() * element_bytes_);
    }
    if (blocks > 0) co_await tile::arrive(o_empty);
    co_await tile::chain(kPagePointers);
    for (Box rest = output(t, 0); rest.rows > 0;) co_await tile::store(take(rest));
    const std::uint64_t row = std::uint64_t{t.batch} * packed_rows() + t.first_row;
    if (at_.max_expsum != 0 && !split) {
      co_await tile::store(Box{at_.max_expsum + row * 8, 1, t.rows * 8, 0});
    } else {
      const std::uint64_t rows = static_cast<std::uint64_t>(sequences_) * packed_rows();
      co_await tile::store(Box{at_.statistics + ((split ? t.split : 0U) * rows + row) * 4, 1, t.rows * 4, 0});
    }
  }
}

Program LatentFlash::multiplier(tile::Cta cta) const {
  const std::uint32_t half = latent_ / 2;
  const SoftmaxCost cost{kTileKeys, half};
  const std::uint64_t scale_bytes = std::uint64_t{4} * kTileRows;
  const bool split = schedule_.splits > 1;
  Ring v;
  std::uint32_t tile_parity = 0;
  co_await tile::named_arrive(kProbabilitiesEmpty, 2);
  co_await tile::arrive(tile_asked);
  co_await tile::wait(tile_full, tile_parity);
  for (std::uint32_t index = handed_[cta.index];;) {
    co_await tile::arrive(tile_empty);
    tile_parity ^= 1U;
    if (index == kEnd) break;
    const Tile t = tile_at(index);
    if (co_await tile::item(t.alike()) != 0) {
      co_await tile::arrive(tile_asked);
      co_await tile::wait(tile_full, tile_parity);
      index = handed_[cta.index];
      continue;
    }
    co_await tile::chain(kTileSetup);
    const std::uint32_t blocks = t.blocks();
    for (std::uint32_t i = 0; i < blocks; ++i) {
      if (const std::uint32_t n = t.alike(i); n > 0) i += static_cast<std::uint32_t>(co_await tile::trip(n));
      co_await tile::named_sync(kProbabilitiesFull, 2);
      if (i > 0) {
        co_await tile::shared_load(scale_bytes);
        co_await cost.rescale();
      }
      co_await tile::wgmma(kTileRows, half, kTileKeys);  // O += P V
      co_await tile::wgmma_wait(0);
      co_await tile::named_arrive(kProbabilitiesEmpty, 2);
      co_await tile::arrive(at(v_empty, v.stage));
      v.next();
    }
    if (blocks > 0) {
      co_await tile::named_sync(kProbabilitiesFull, 2);
      co_await tile::shared_load(scale_bytes);
      co_await tile::named_arrive(kProbabilitiesEmpty, 2);
      co_await cost.rescale();
    }
    co_await tile::arrive(tile_asked);
    co_await tile::wait(tile_full, tile_parity);
    index = handed_[cta.index];
    co_await tile::named_sync(kStore, kConsumers);
    if (!split) {
      co_await cost.output_rounding();
      co_await tile::shared_store(cost.outputs() * element_bytes_);
      co_await tile::named_sync(kStore, kConsumers);
      co_await tile::shared_load(cost.outputs() * element_bytes_);
    }
    if (blocks > 0) co_await tile::arrive(o_empty);
    co_await tile::chain(kPagePointers);
    for (Box rest = output(t, 1); rest.rows > 0;) co_await tile::store(take(rest));
  }
}

}  // namespace tessera::kernels
