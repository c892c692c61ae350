#include "kernels/attention_paged/paged_flash.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/attention_paged/search_cost.hpp"
#include "kernels/attention_prefill/softmax_cost.hpp"

namespace tessera::kernels {

using tile::Box;
using tile::Program;

namespace {

std::uint32_t ceil_div(std::uint32_t a, std::uint32_t b) { return (a + b - 1) / b; }
std::uint8_t at(int first, std::uint32_t stage) {
  return static_cast<std::uint8_t>(first + static_cast<int>(stage));
}

}  // namespace

PagedFlash::PagedFlash(const PagedCall& call, const PagedSchedule& schedule, const GpuSpec& gpu,
                       const PagedAddresses& addresses)
    : call_{call},
      schedule_{schedule},
      at_{addresses},
      sequences_{static_cast<std::uint32_t>(call.batch)},
      kv_heads_{static_cast<std::uint32_t>(call.kv_heads)},
      group_{static_cast<std::uint32_t>(call.group())},
      head_dim_{static_cast<std::uint32_t>(call.head_dim)},
      row_bytes_{static_cast<std::uint32_t>(call.head_dim * call.element_bytes)},
      consumers_{schedule.tile_q / kWarpgroupRows},
      by_group_{group_},
      by_tile_kv_{schedule.tile_kv},
      turns_{call.head_dim <= 128 && consumers_ > 1},
      search_{static_cast<std::uint32_t>(consumers_ > 1 ? gpu.flash3.tile_search_few_registers_cycles
                                                        : gpu.flash3.tile_search_cycles)},
      copy_chunk_{static_cast<std::uint32_t>(gpu.flash3.copy_chunk_cycles)} {
  shape_.name = fmt::format("flash3 paged {}x{} d{}{}{}", schedule_.tile_q, schedule_.tile_kv, head_dim_,
                            call.causal ? " causal" : "",
                            schedule_.most_splits > 1 ? fmt::format(" splits {}", schedule_.splits) : "");
  shape_.grid = static_cast<std::uint32_t>(gpu.sms());
  shape_.roles.push_back({"producer", 4});
  for (std::uint32_t c = 0; c < consumers_; ++c) shape_.roles.push_back({fmt::format("consumer{}", c), 4});
  shape_.registers_per_cta = gpu.sm.registers;
  const std::int64_t kv_bytes = std::int64_t{4} * schedule_.tile_kv * row_bytes_;
  const std::int64_t p_bytes =
      schedule_.p_in_registers ? 0 : std::int64_t{2} * schedule_.tile_q * schedule_.tile_kv;
  shape_.shared_bytes = std::int64_t{schedule_.tile_q} * row_bytes_ + kv_bytes + p_bytes;
  const std::uint32_t n = consumers_;
  shape_.barriers = {{"q_full", 1},     {"q_empty", n},   {"tile_full", 1}, {"tile_empty", n},
                     {"o_empty", n},    {"k_full[0]", 1}, {"k_full[1]", 1}, {"k_empty[0]", n},
                     {"k_empty[1]", n}, {"v_full[0]", 1}, {"v_full[1]", 1}, {"v_empty[0]", n},
                     {"v_empty[1]", n}, {"tile_asked", n}};
  shape_.prologue_cycles = 500;  // mbarrier initialisation, setmaxnreg
  shape_.launched_beside = schedule_.overlapped;
  handed_.resize(shape_.grid, kEnd);
  for (std::uint32_t block = 0; block < schedule_.query_tiles; ++block) {  // sequences and heads are alike
    for (std::uint32_t split = 0; split < schedule_.splits; ++split)
      shape_.trips += alike(tile_of(block, split));
  }
  shape_.trips *= std::uint64_t{kv_heads_} * sequences_;
  shape_.even_trips =
      schedule_.longest_first ? shape_.trips : shape_.trips * (tiles() / shape_.grid * shape_.grid) / tiles();
}

PagedFlash::Tile PagedFlash::tile_at(std::uint32_t index) const {
  Tile t{};
  const std::uint32_t m_tiles = schedule_.query_tiles, splits = schedule_.splits;
  t.batch = index / tiles_per_sequence();
  std::uint32_t within = index % tiles_per_sequence(), block = 0;
  if (schedule_.longest_first) {
    const std::uint32_t heads = kv_heads_ * splits, turn = heads_per_section();
    const std::uint32_t first = within / (turn * m_tiles) * turn, width = std::min(turn, heads - first);
    within -= first * m_tiles;
    block = m_tiles - 1 - within / width;
    within = first + within % width;
  } else {
    block = within % m_tiles;
    within /= m_tiles;
  }
  t.head = within / splits;
  t.split = within % splits;
  const Tile range = tile_of(block, t.split);
  return {t.batch,    t.head,         t.split,       range.first_row,
          range.rows, range.kv_first, range.kv_last, range.unmasked};
}

PagedFlash::Tile PagedFlash::tile_of(std::uint32_t block, std::uint32_t split) const {
  Tile t{};
  t.split = split;
  const std::uint32_t splits = schedule_.splits;
  t.first_row = block * schedule_.tile_q;
  const auto packed = static_cast<std::uint32_t>(call_.new_rows) * group_;
  t.rows = std::min(schedule_.tile_q, packed - t.first_row);
  const auto least = static_cast<std::uint32_t>(call_.visible(by_group_(t.first_row)));
  const auto most = static_cast<std::uint32_t>(call_.visible(by_group_(t.first_row + t.rows - 1)));
  const std::uint32_t kv_tiles = by_tile_kv_.up(most);
  const std::uint32_t share = splits > 1 ? ceil_div(kv_tiles, splits) : kv_tiles;
  t.kv_first = std::min(kv_tiles, t.split * share);
  t.kv_last = std::min(kv_tiles, t.kv_first + share);
  t.unmasked = by_tile_kv_(least);
  return t;
}

PagedFlash::Runs PagedFlash::packed_rows(std::uint64_t base, std::uint32_t element_bytes, const Tile& t,
                                         std::uint32_t first, std::uint32_t rows) const {
  const std::uint32_t head_bytes = head_dim_ * element_bytes;
  const std::uint64_t pitch = static_cast<std::uint64_t>(call_.heads) * head_bytes;
  const std::uint64_t sequence = base + t.batch * static_cast<std::uint64_t>(call_.new_rows) * pitch +
                                 std::uint64_t{t.head} * group_ * head_bytes;
  Runs runs;
  const auto add = [&](std::uint32_t from, std::uint32_t query_rows, std::uint32_t heads) {
    if (query_rows == 0 || heads == 0) return;
    runs.box[runs.count++] = Box{sequence + from / group_ * pitch + std::uint64_t{from % group_} * head_bytes,
                                 query_rows, heads * head_bytes, pitch};
  };
  const std::uint32_t last = first + rows;
  const std::uint32_t whole_first = ceil_div(first, group_) * group_, whole_last = last / group_ * group_;
  if (whole_first > whole_last) {  // inside one query row
    add(first, 1, rows);
    return runs;
  }
  add(first, 1, whole_first - first);
  add(whole_first, (whole_last - whole_first) / group_, group_);
  add(whole_last, 1, last - whole_last);
  return runs;
}

Box PagedFlash::kv_box(std::uint64_t base, const Tile& t, std::uint32_t kv_tile) const {
  const std::uint64_t pitch = std::uint64_t{kv_heads_} * row_bytes_;
  const std::uint64_t first = std::uint64_t{kv_tile} * schedule_.tile_kv;
  const auto context = static_cast<std::uint64_t>(call_.context);
  const auto rows = static_cast<std::uint32_t>(std::min<std::uint64_t>(schedule_.tile_kv, context - first));
  return Box{base + (t.batch * context + first) * pitch + std::uint64_t{t.head} * row_bytes_, rows,
             row_bytes_, pitch};
}

tile::Outline PagedFlash::outline() const {
  // A round: the tiles of one sequence or of one of its equal sections, or all of them where they are alike.
  const std::uint32_t m_tiles = schedule_.query_tiles, splits = schedule_.splits;
  const std::uint32_t heads = kv_heads_ * splits;
  tile::Outline o{.in_turn = true};
  const auto add_pieces = [](std::vector<tile::Pieces>& to, std::uint64_t count, std::uint32_t trips) {
    if (!to.empty() && to.back().trips == trips)
      to.back().count += count;
    else
      to.push_back({count, trips});
  };
  std::uint64_t loaded_rows = 0, stored_rows = 0;
  // The tile's trips; none of a split that has no keys, which is told at once.
  const auto trips_of = [&](std::uint32_t block, std::uint32_t split) {
    const Tile t = tile_of(block, split);
    if (t.kv_first == t.kv_last) return 0U;
    const auto context = static_cast<std::uint64_t>(call_.context);
    const std::uint64_t keys = std::min(std::uint64_t{t.kv_last} * schedule_.tile_kv, context) -
                               std::min(std::uint64_t{t.kv_first} * schedule_.tile_kv, context);
    loaded_rows += t.rows + 2 * keys;
    stored_rows += t.rows;
    return t.kv_last - t.kv_first;
  };
  if (m_tiles == 1 || !schedule_.longest_first) {
    o.rounds = m_tiles > 1 ? sequences_ : 1;
    for (std::uint32_t block = 0; block < m_tiles; ++block)
      for (std::uint32_t split = 0; split < splits; ++split)
        if (const std::uint32_t trips = trips_of(block, split); trips > 0)
          add_pieces(o.pieces, std::uint64_t{kv_heads_} * (m_tiles > 1 ? 1 : sequences_), trips);
  } else {
    const std::uint32_t width = heads_per_section();
    const std::uint32_t alike = splits > 1 ? kv_heads_ : heads % width == 0 ? heads / width : 1;
    o.rounds = std::uint64_t{sequences_} * alike;
    std::vector<tile::Pieces> of_head;
    for (std::uint32_t split = 0; split < splits; ++split) {
      of_head.clear();
      for (std::uint32_t block = m_tiles; block-- > 0;)
        if (const std::uint32_t trips = trips_of(block, split); trips > 0) add_pieces(of_head, 1, trips);
      // Sections of one split, or of `width` heads and what is left.
      const std::uint32_t share = heads / alike / splits;
      for (std::uint32_t first = 0; first < share; first += width)
        for (const tile::Pieces& p : of_head)
          add_pieces(o.pieces, p.count * std::min(width, share - first), p.trips);
    }
  }
  const std::uint64_t sequence_heads = std::uint64_t{kv_heads_} * sequences_;
  o.load_bytes = sequence_heads * loaded_rows * row_bytes_;
  o.store_bytes =
      sequence_heads * stored_rows * (splits > 1 ? std::uint64_t{head_dim_} * 4 + 4 : row_bytes_ + 4);
  const auto packed = static_cast<std::uint32_t>(call_.new_rows) * group_;
  o.key = fmt::format("flash3 paged {} {} {} {} {} {} {} {} {} {}", schedule_.tile_q, schedule_.tile_kv,
                      head_dim_, call_.causal, group_, std::min(packed, schedule_.tile_q), row_bytes_,
                      excerpt_sequences_per_turn(), splits > 1,
                      call_.context < 2 * schedule_.tile_kv ? call_.context % schedule_.tile_kv : 0);
  return o;
}

std::unique_ptr<tile::Kernel> PagedFlash::excerpt(std::uint32_t, std::uint32_t pieces,
                                                  std::uint32_t trips) const {
  auto e = std::make_unique<PagedFlash>(*this);
  const std::uint32_t splits = std::min(schedule_.splits, 2U);
  e->schedule_.splits = splits;
  e->schedule_.query_tiles = e->schedule_.heads_in_l2 = 1;
  e->kv_heads_ = 1;
  // Each tile of the CTA is as many sequences further on as in the whole kernel, as far as the search tells.
  e->sequences_ = pieces * excerpt_sequences_per_turn();
  e->shape_.grid = excerpt_sequences_per_turn() * splits;
  // Where in a line the tables begin is the allocator's choice: here each has its own.
  for (std::uint64_t* table : {&e->at_.pages, &e->at_.lengths, &e->at_.schedule})
    *table -= *table % tile::kLineBytes;
  e->handed_.assign(e->shape_.grid, kEnd);
  const std::int64_t whole = std::int64_t{trips} * splits * schedule_.tile_kv;
  const std::int64_t part = call_.context % schedule_.tile_kv;
  e->call_.context =
      call_.context < 2 * schedule_.tile_kv && part > 0 ? whole - schedule_.tile_kv + part : whole;
  e->call_.new_rows =
      std::min<std::int64_t>({call_.new_rows, ceil_div(schedule_.tile_q, group_), e->call_.context});
  e->call_.batch = e->sequences_;
  e->call_.kv_heads = 1;
  e->call_.heads = group_;
  return e;
}

Program PagedFlash::program(tile::Cta cta, std::uint32_t role) const {
  return role == 0 ? producer(cta) : consumer(cta, role - 1);
}

Program PagedFlash::producer(tile::Cta cta) const {
  const auto copy = [&](std::uint32_t rows) {
    return std::uint64_t{ceil_div(rows, kRowsPerPass)} * ceil_div(row_bytes_, kBytesPerPass) * copy_chunk_;
  };
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
    // Three of the four warps learn of the tile at a barrier of all warps: the copies for it begin when the
    // consumers ask for it.
    co_await tile::wait(tile_asked, parity);
    handed_[cta.index] = end ? kEnd : index;
    co_await tile::arrive(tile_full);
    if (end) break;
    const Tile t = tile_at(index);
    sequence = t.batch;
    if (co_await tile::item(alike(t)) != 0) {
      index = static_cast<std::uint32_t>(co_await tile::next_tile()) + shape_.grid;
      continue;
    }
    // The sequence's place in the sorted order, then its lengths.
    co_await tile::load(Box{at_.schedule + std::uint64_t{t.batch} * 4, 1, 4, 0});
    co_await tile::load_wait();
    co_await tile::load(Box{at_.lengths + std::uint64_t{t.batch} * 4, 1, 4, 0});
    co_await tile::load_wait();
    co_await tile::chain(kTileSetup);
    if (t.kv_first >= t.kv_last) {
      index = static_cast<std::uint32_t>(co_await tile::next_tile()) + shape_.grid;
      continue;
    }
    const auto pages = [&](std::uint32_t n) {
      const auto row = static_cast<std::uint64_t>(call_.pages());
      return at_.pages + 4 * (t.batch * row + std::uint64_t{n} * schedule_.tile_kv / models::kPageRows);
    };
    std::uint64_t page_line = 0;
    for (std::uint32_t n = t.kv_last; n-- > t.kv_first;) {
      if (const std::uint32_t alike = t.alike(t.kv_last - 1 - n); alike > 0)
        n -= static_cast<std::uint32_t>(co_await tile::trip(alike));
      if (const std::uint64_t line = pages(n) / 128; line != page_line) {
        co_await tile::load(Box{pages(n), 1, 4, 0});
        co_await tile::load_wait();
        page_line = line;
      } else {
        co_await tile::chain(kL1Hit);
      }
      co_await tile::chain(kPagePointers);
      const Box k_box = kv_box(at_.k_cache, t, n);
      co_await tile::wait(at(k_empty, k.stage), k.phase ^ 1U);
      co_await tile::expect(at(k_full, k.stage), k_box.bytes());
      co_await tile::async_load(k_box, at(k_full, k.stage), copy(k_box.rows));
      k.next();
      if (n + 1 == t.kv_last) {
        co_await tile::wait(q_empty, work_parity ^ 1U);
        co_await tile::chain(kPagePointers);  // which query row and head a packed row is
        const Runs q = packed_rows(at_.q, row_bytes_ / head_dim_, t, t.first_row, t.rows);
        co_await tile::expect(q_full, std::uint64_t{t.rows} * row_bytes_);
        for (std::uint32_t i = 0; i < q.count; ++i)
          co_await tile::async_load(q.box[i], q_full, i == 0 ? copy(t.rows) : 0);
        co_await tile::wait(o_empty, work_parity ^ 1U);
      } else {
        const Box v_box = kv_box(at_.v_cache, t, n + 1);
        co_await tile::wait(at(v_empty, v.stage), v.phase ^ 1U);
        co_await tile::expect(at(v_full, v.stage), v_box.bytes());
        co_await tile::async_load(v_box, at(v_full, v.stage), copy(schedule_.tile_kv));
        v.next();
      }
    }
    co_await tile::prefetch_tile();
    const Box v_box = kv_box(at_.v_cache, t, t.kv_first);
    co_await tile::wait(at(v_empty, v.stage), v.phase ^ 1U);
    co_await tile::expect(at(v_full, v.stage), v_box.bytes());
    co_await tile::async_load(v_box, at(v_full, v.stage), copy(schedule_.tile_kv));
    v.next();
    work_parity ^= 1U;
    index = static_cast<std::uint32_t>(co_await tile::next_tile()) + shape_.grid;
  }
}

Program PagedFlash::consumer(tile::Cta cta, std::uint32_t me) const {
  const SoftmaxCost cost{schedule_.tile_kv, head_dim_};
  const std::uint32_t next = (me + 1) % consumers_;
  const auto my_turn = static_cast<std::uint8_t>(me), next_turn = static_cast<std::uint8_t>(next);
  constexpr std::uint8_t kStore = 8;  // the named barrier of all consumers
  const bool p_in_registers = schedule_.p_in_registers;
  const std::uint64_t p_bytes = std::uint64_t{2} * kWarpgroupRows * schedule_.tile_kv;
  Ring k, v;
  std::uint32_t parity = 0, tile_parity = 0;
  if (turns_ && me == 0) co_await tile::named_arrive(0, 2);
  co_await tile::arrive(tile_asked);
  co_await tile::wait(tile_full, tile_parity);
  for (std::uint32_t index = handed_[cta.index];;) {
    co_await tile::arrive(tile_empty);
    tile_parity ^= 1U;
    if (index == kEnd) break;
    const Tile t = tile_at(index);
    if (co_await tile::item(alike(t)) != 0) {
      co_await tile::arrive(tile_asked);
      co_await tile::wait(tile_full, tile_parity);
      index = handed_[cta.index];
      continue;
    }
    const bool work = t.kv_first < t.kv_last;
    co_await tile::chain(kTileSetup);
    if (work) {
      const std::uint32_t blocks = t.kv_last - t.kv_first;
      const auto masked = [&](std::uint32_t i) { return i == 0 || t.kv_last - 1 - i >= t.unmasked; };
      co_await tile::wait(q_full, parity);
      co_await tile::wait(at(k_full, k.stage), k.phase);
      co_await tile::wgmma(kWarpgroupRows, schedule_.tile_kv, head_dim_);  // S = Q K^T
      co_await tile::wgmma_wait(0);
      co_await tile::arrive(at(k_empty, k.stage));
      k.next();
      co_await cost.mask();
      co_await cost.row_max();
      for (std::uint32_t e = 0; e < cost.parts(); ++e) co_await cost.exponentials(e);
      co_await cost.row_sum();
      co_await cost.rounding();
      if (!p_in_registers) co_await tile::shared_store(p_bytes);
      for (std::uint32_t i = 1; i < blocks; ++i) {
        if (const std::uint32_t alike = t.alike(i); alike > 0)
          i += static_cast<std::uint32_t>(co_await tile::trip(alike));
        if (!turns_ || me == 0) co_await tile::wait(at(k_full, k.stage), k.phase);
        if (turns_) co_await tile::named_sync(my_turn, 2);
        if (turns_ && me != 0) co_await tile::wait(at(k_full, k.stage), k.phase);
        co_await tile::wgmma(kWarpgroupRows, schedule_.tile_kv, head_dim_);  // next S
        if (!turns_) co_await cost.rescale();
        co_await tile::wait(at(v_full, v.stage), v.phase);
        co_await tile::wgmma(kWarpgroupRows, head_dim_, schedule_.tile_kv, p_in_registers);  // O += P V
        if (turns_) co_await tile::named_arrive(next_turn, 2);
        co_await tile::wgmma_wait(1);
        co_await tile::arrive(at(k_empty, k.stage));
        k.next();
        if (masked(i)) co_await cost.mask();
        co_await cost.row_max();
        for (std::uint32_t e = 0; e < cost.parts(); ++e) co_await cost.exponentials(e);
        co_await cost.row_sum();
        co_await tile::wgmma_wait(0);
        co_await tile::arrive(at(v_empty, v.stage));
        v.next();
        co_await cost.rounding();
        if (!p_in_registers) co_await tile::shared_store(p_bytes);
        if (turns_) co_await cost.rescale();
      }
      co_await tile::arrive(q_empty);
      if (!turns_ && blocks > 1) co_await cost.rescale();
      co_await tile::wait(at(v_full, v.stage), v.phase);
      co_await tile::wgmma(kWarpgroupRows, head_dim_, schedule_.tile_kv, p_in_registers);
      co_await cost.finalize();
      co_await tile::wgmma_wait(0);
      co_await tile::arrive(at(v_empty, v.stage));
      v.next();
      co_await cost.rescale();
      parity ^= 1U;
    }
    // The next tile must be known before this one is stored.
    co_await tile::arrive(tile_asked);
    co_await tile::wait(tile_full, tile_parity);
    index = handed_[cta.index];
    if (!work) continue;
    const std::uint32_t first = me * kWarpgroupRows;
    const std::uint32_t rows = first < t.rows ? std::min(kWarpgroupRows, t.rows - first) : 0;
    const bool split = schedule_.splits > 1;
    const std::uint64_t outputs = std::uint64_t{kWarpgroupRows} * head_dim_;
    co_await cost.output_rounding();
    co_await tile::named_sync(kStore, consumers_);  // all have read V, whose place the output takes
    co_await tile::shared_store(outputs * 2);
    co_await tile::named_sync(kStore, consumers_);
    if (!split) co_await tile::shared_load(outputs * 2);
    co_await tile::arrive(o_empty);
    if (rows == 0) continue;
    co_await tile::chain(kPagePointers);
    const std::uint64_t head_rows =
        static_cast<std::uint64_t>(call_.batch * call_.heads * call_.new_rows) * (split ? t.split : 0);
    const Runs out = packed_rows(split ? at_.partials + head_rows * head_dim_ * 4 : at_.out, split ? 4 : 2, t,
                                 t.first_row + first, rows);
    for (std::uint32_t i = 0; i < out.count; ++i) co_await tile::store(out.box[i]);
    co_await tile::store(Box{at_.statistics + (head_rows +
                                               (std::uint64_t{t.batch} * kv_heads_ + t.head) *
                                                   static_cast<std::uint64_t>(call_.new_rows) * group_ +
                                               t.first_row + first) *
                                                  4,
                             1, rows * 4, 0});
  }
}

}  // namespace tessera::kernels
