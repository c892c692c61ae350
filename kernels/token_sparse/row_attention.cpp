#include "kernels/token_sparse/row_attention.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "kernels/attention_prefill/softmax_cost.hpp"

namespace tessera::kernels {

using tile::Box;

namespace {

constexpr std::uint32_t kTileKeys = 64, kWgmmaRows = 64, kMmaRows = 16;
constexpr std::int64_t kIndexKeys = 256, kIndexRows = 128;  // of a step; query rows times heads of a tile
constexpr std::uint32_t kTopKThreads = 1024, kTopKValues = 4096, kPasses = 2;

std::uint64_t u(std::int64_t n) { return static_cast<std::uint64_t>(n); }
std::uint32_t w(std::int64_t n) { return static_cast<std::uint32_t>(n); }
std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
std::uint32_t padded(std::int64_t rows) { return w(ceil_div(rows, kMmaRows) * kMmaRows); }

}  // namespace

RowAttentionKernel::RowAttentionKernel(const RowAttention& call, const GpuSpec& gpu) : call_{call} {
  groups_ = w(ceil_div(call.heads, call.group));
  wgmma_ = gpu.sm.has_tma && call.group >= kWgmmaRows;
  rows_ = wgmma_ ? kWgmmaRows : padded(call.group);
  const std::uint32_t warps = wgmma_ ? 8 : 4, threads = warps * 32;
  shape_.name = call.name;
  shape_.roles = {{"warps", warps}};
  const std::int64_t tile_bytes =
      kTileKeys * (call.key_dim + (call.value_in_key ? 0 : call.value_dim)) * call.element_bytes;
  // Accumulators, and as much again for everything else.
  shape_.registers_per_cta = std::min<std::int64_t>(
      gpu.sm.registers, std::max<std::int64_t>(threads * 128, 2 * std::int64_t{rows_} * call.value_dim));
  shape_.shared_bytes = std::min<std::int64_t>(
      gpu.sm.shared_bytes_per_cta, std::int64_t{rows_} * call.key_dim * call.element_bytes + 2 * tile_bytes);
  shape_.prologue_cycles = 200;
  operand_bytes_ = call.operand_bytes;
  between_read_ = call.between_read;
  between_written_ = call.between_written;
  std::uint64_t gathered = 0;
  for (const std::int64_t keys : call.keys) {
    const std::int64_t tiles = std::max<std::int64_t>(1, ceil_div(keys, kTileKeys));
    // Splits take whole tiles in turn; the last ones may be empty and still make one.
    add_ctas(u(std::int64_t{groups_} * call.splits), u(ceil_div(tiles, call.splits)));
    gathered += u(keys) * u(call.sequences) * groups_;
  }
  set_work(std::move(pieces_), u(call.sequences));
  const std::uint64_t row_bytes =
      u(call.key_dim + (call.value_in_key ? 0 : call.value_dim)) * call.element_bytes;
  const std::uint64_t held = u(call.sequences * call.kv_rows * call.kv_heads) * row_bytes,
                      l2 = u(gpu.l2.bytes);
  // Lists differ from row to row: of what the L2 cannot hold, each gather misses as much.
  if (call.list_block > 0 && held > l2)
    reread_bytes_ = static_cast<std::uint64_t>(static_cast<double>(gathered * row_bytes) *
                                               (1 - static_cast<double>(l2) / static_cast<double>(held)));
}

tile::Program RowAttentionKernel::body(std::uint32_t cta, std::uint32_t trips) const {
  const std::uint32_t e = call_.element_bytes, rows = w(static_cast<std::int64_t>(call_.keys.size())),
                      splits = w(call_.splits);
  const std::uint32_t split = cta % splits, group = cta / splits % groups_,
                      row = cta / splits / groups_ % rows, sequence = cta / splits / groups_ / rows;
  const std::uint32_t heads = w(std::min(call_.group, call_.heads - std::int64_t{group} * call_.group));
  const std::uint64_t q_row = std::uint64_t{sequence} * rows + row;
  const std::uint32_t key_bytes = w(call_.key_dim) * e, value_bytes = w(call_.value_dim) * e;
  const std::uint32_t kv_head =
      call_.kv_heads == 1 ? 0 : group * w(call_.group) / w(call_.heads / call_.kv_heads);
  const std::uint64_t k_pitch = u(call_.kv_heads) * key_bytes, v_pitch = u(call_.kv_heads) * value_bytes;
  const std::int64_t keys = std::max<std::int64_t>(1, call_.keys[row]);
  const std::uint64_t scores = std::uint64_t{rows_} * kTileKeys,
                      outputs = std::uint64_t{rows_} * u(call_.value_dim);
  const std::uint64_t list = (q_row * groups_ + group) * u(keys) * 4;
  // The tile's rows: contiguous, or evenly over all that the row sees (a list's entries are as good as
  // these).
  const auto tile_rows = [&](std::uint64_t base, std::uint64_t pitch, std::uint32_t bytes, std::uint32_t i) {
    const std::int64_t at =
        (std::int64_t{i} * splits + split) * kTileKeys % std::max<std::int64_t>(kTileKeys, keys);
    const auto n = w(std::clamp<std::int64_t>(keys - at, 1, kTileKeys));
    const std::int64_t apart = call_.list_block == 1 ? std::max<std::int64_t>(1, call_.kv_rows / keys) : 1;
    const std::int64_t jump = call_.list_block > 1 ? std::max<std::int64_t>(1, call_.kv_rows / keys) : apart;
    const std::int64_t first =
        std::clamp<std::int64_t>(at * jump, 0, call_.kv_rows - 1 - (std::int64_t{n} - 1) * apart);
    return Box{base + (std::uint64_t{sequence} * u(call_.kv_rows) + u(first)) * pitch +
                   std::uint64_t{kv_head} * bytes,
               n, bytes, u(apart) * pitch};
  };
  const std::uint32_t boxes = call_.value_in_key ? 1 : 2;

  if (co_await tile::item(trips - 1) != 0) co_return;
  const std::uint32_t q_bytes = call_.q2 != 0 ? value_bytes : key_bytes;
  const std::uint64_t head = std::uint64_t{group} * u(call_.group);
  co_await tile::load(Box{call_.q + (q_row * u(call_.heads) + head) * q_bytes, heads, q_bytes, q_bytes});
  if (call_.q2 != 0) {
    const std::uint32_t rest = key_bytes - value_bytes;
    co_await tile::load(Box{call_.q2 + (q_row * u(call_.heads) + head) * rest, heads, rest, rest});
  }
  if (call_.list_block > 0) {
    co_await tile::load(Box{call_.lists + list, 1, w(std::min<std::int64_t>(keys, 4096)) * 4, 0});
    co_await tile::load_wait();
  }
  co_await tile::load(tile_rows(call_.k, k_pitch, key_bytes, 0));
  if (boxes == 2) co_await tile::load(tile_rows(call_.v, v_pitch, value_bytes, 0));
  if (wgmma_) {
    co_await tile::load_wait();
    co_await tile::wgmma(rows_, kTileKeys, w(call_.key_dim));
  }
  for (std::uint32_t i = 0; i < trips; ++i) {
    if (i + 1 < trips) i += static_cast<std::uint32_t>(co_await tile::trip(trips - 1 - i));
    const bool more = i + 1 < trips;
    if (more) {
      co_await tile::load(tile_rows(call_.k, k_pitch, key_bytes, i + 1));
      if (boxes == 2) co_await tile::load(tile_rows(call_.v, v_pitch, value_bytes, i + 1));
    }
    if (wgmma_) {
      // S of the next tile runs under this tile's softmax.
      if (more) {
        co_await tile::load_wait();
        co_await tile::wgmma(rows_, kTileKeys, w(call_.key_dim));
      }
      co_await tile::wgmma_wait(more ? 1 : 0);
    } else {
      co_await tile::load_wait(more ? boxes : 0);
      co_await tile::shared_load(std::uint64_t{kTileKeys} * key_bytes);
      co_await tile::mma(rows_, kTileKeys, w(call_.key_dim));
    }
    co_await tile::compute({.integer = 2 * scores, .shuffle = std::uint64_t{rows_} * 4 * 2},
                           std::uint64_t{kTileKeys} / 4 * kAluLatency + 2 * (kShuffleLatency + kAluLatency));
    co_await tile::compute({.fma = scores, .mufu = scores + std::uint64_t{rows_} * 4},
                           kAluLatency + kMufuLatency);
    co_await tile::compute({.fma = scores + outputs, .convert = scores / 2});
    if (wgmma_) {
      for (std::uint32_t from = 0; from < w(call_.value_dim); from += 256)
        co_await tile::wgmma(rows_, std::min(256U, w(call_.value_dim) - from), kTileKeys);
    } else {
      co_await tile::shared_load(std::uint64_t{kTileKeys} * value_bytes);
      co_await tile::mma(rows_, w(call_.value_dim), kTileKeys);
    }
  }
  if (wgmma_) co_await tile::wgmma_wait(0);
  co_await tile::compute({.fma = outputs, .mufu = std::uint64_t{rows_} * 4, .convert = outputs / 2});
  const std::uint32_t out_bytes = splits > 1 ? w(call_.value_dim) * 4 + 8 : value_bytes;
  const std::uint64_t out_row = (q_row * u(call_.heads) + head) * splits + std::uint64_t{split} * heads;
  co_await tile::store(Box{call_.out + out_row * out_bytes, heads, out_bytes, out_bytes});
}

// ---------------------------------------------------------------------------------------------------------

BlockRankingKernel::BlockRankingKernel(const BlockRanking& call, const GpuSpec&) : call_{call} {
  shape_.name = fmt::format("nsa_topk {}", call.selected);
  shape_.roles = {{"warps", 4}};
  shape_.registers_per_cta = 128 * 128;
  shape_.shared_bytes =
      (std::int64_t{padded(call.heads / call.kv_heads)} + 2 * kTileKeys) * call.head_dim * call.element_bytes;
  shape_.prologue_cycles = 200;
  for (const std::int64_t keys : call.keys)
    add_ctas(u(call.kv_heads), u(std::max<std::int64_t>(1, ceil_div(keys, kTileKeys))));
  set_work(std::move(pieces_), u(call.sequences));
  operand_bytes_ = call.sequences * static_cast<std::int64_t>(call.keys.size()) * call.heads * call.head_dim *
                   call.element_bytes;
  between_read_ = u(call.sequences * call.kv_rows * call.kv_heads * call.head_dim) * call.element_bytes;
  between_written_ = u(call.sequences * call.kv_heads * call.selected) * call.keys.size() * 4;
}

tile::Program BlockRankingKernel::body(std::uint32_t cta, std::uint32_t trips) const {
  const std::uint32_t kv_heads = w(call_.kv_heads), group = w(call_.heads / call_.kv_heads),
                      query_rows = w(static_cast<std::int64_t>(call_.keys.size()));
  const std::uint32_t kv_head = cta % kv_heads, row = cta / kv_heads % query_rows,
                      sequence = cta / kv_heads / query_rows;
  const std::uint32_t row_bytes = w(call_.head_dim) * call_.element_bytes, rows = padded(group);
  const std::uint64_t q_row = std::uint64_t{sequence} * query_rows + row,
                      pitch = std::uint64_t{kv_heads} * row_bytes;
  const std::uint64_t scores = std::uint64_t{rows} * kTileKeys;
  const auto best = w(static_cast<std::int64_t>(std::bit_ceil(u(call_.selected))));
  const auto keys = [&](std::uint32_t i) {
    const std::int64_t first = std::min<std::int64_t>(std::int64_t{i} * kTileKeys, call_.kv_rows - 1);
    return Box{call_.k + (std::uint64_t{sequence} * u(call_.kv_rows) + u(first)) * pitch +
                   std::uint64_t{kv_head} * row_bytes,
               w(std::min<std::int64_t>(kTileKeys, call_.kv_rows - first)), row_bytes, pitch};
  };
  // A bitonic merge of the tile's blocks with the best so far: log2^2 / 2 exchanges of every element.
  const auto digits = static_cast<std::uint64_t>(std::bit_width(2 * best - 1));
  const std::uint64_t exchanges = digits * (digits + 1) / 2;

  if (co_await tile::item(trips - 1) != 0) co_return;
  co_await tile::load(Box{call_.q + (q_row * u(call_.heads) + std::uint64_t{kv_head} * group) * row_bytes,
                          group, row_bytes, row_bytes});
  co_await tile::load(keys(0));
  for (std::uint32_t i = 0; i < trips; ++i) {
    if (i + 1 < trips) i += static_cast<std::uint32_t>(co_await tile::trip(trips - 1 - i));
    const bool more = i + 1 < trips;
    if (more) co_await tile::load(keys(i + 1));
    co_await tile::load_wait(more ? 1 : 0);
    co_await tile::shared_load(std::uint64_t{kTileKeys} * row_bytes);
    co_await tile::mma(rows, kTileKeys, w(call_.head_dim));
    co_await tile::compute({.fma = 2 * scores, .mufu = scores, .shuffle = std::uint64_t{rows} * kTileKeys},
                           kMufuLatency + 4 * (kShuffleLatency + kAluLatency));
    co_await tile::compute({.integer = exchanges * 2 * best * 4, .shuffle = exchanges * 2 * best},
                           exchanges * (kShuffleLatency + 2 * kAluLatency));
  }
  const std::uint64_t list = (q_row * kv_heads + kv_head) * u(call_.selected) * 4;
  co_await tile::store(Box{call_.lists + list, 1, w(call_.selected) * 4, 0});
}

// ---------------------------------------------------------------------------------------------------------

IndexLogitsKernel::IndexLogitsKernel(const IndexLogits& call, const GpuSpec& gpu)
    : call_{call}, tile_rows_{std::max<std::int64_t>(1, kIndexRows / call.heads)}, wgmma_{gpu.sm.has_tma} {
  const auto query_rows = static_cast<std::int64_t>(call.keys.size());
  tile_rows_ = std::min(tile_rows_, query_rows);
  const std::int64_t tiles = ceil_div(query_rows, tile_rows_) * call.sequences;
  // Few tiles share their keys out, so that each SM has some.
  splits_ = w(std::max<std::int64_t>(1, 2 * gpu.sms() / tiles));
  shape_.name = fmt::format("index_logits {}x{}", tile_rows_, call.heads);
  shape_.roles = {{"warps", 4}};
  shape_.registers_per_cta = 128 * 168;
  shape_.shared_bytes = (tile_rows_ * call.heads + 2 * kIndexKeys) * call.dim * call.element_bytes + 2048;
  shape_.prologue_cycles = 200;
  for (std::int64_t row = 0; row < query_rows; row += tile_rows_) {
    const std::int64_t keys = call.keys[u(std::min(row + tile_rows_, query_rows) - 1)];
    const std::int64_t steps = std::max<std::int64_t>(1, ceil_div(keys, kIndexKeys));
    add_ctas(splits_, u(ceil_div(steps, splits_)));
  }
  set_work(std::move(pieces_), u(call.sequences));
  operand_bytes_ = call.sequences * (query_rows * call.heads * (call.dim * call.element_bytes + 4) +
                                     call.context * call.dim * call.element_bytes);
  for (const std::int64_t keys : call.keys) between_written_ += u(keys * call.sequences) * 4;
}

tile::Program IndexLogitsKernel::body(std::uint32_t cta, std::uint32_t trips) const {
  const auto query_rows = static_cast<std::int64_t>(call_.keys.size());
  const std::uint32_t tiles = w(ceil_div(query_rows, tile_rows_)), split = cta % splits_,
                      tile = cta / splits_ % tiles, sequence = cta / splits_ / tiles;
  const std::int64_t first_row = std::int64_t{tile} * tile_rows_;
  const auto rows = w(std::min(tile_rows_, query_rows - first_row));
  const std::uint32_t row_bytes = w(call_.dim) * call_.element_bytes, heads = w(call_.heads);
  const std::uint64_t q_row = std::uint64_t{sequence} * u(query_rows) + u(first_row);
  const std::int64_t seen = call_.keys[u(first_row) + rows - 1];
  const auto first_key = [&](std::uint32_t i) {
    return std::min<std::int64_t>((std::int64_t{i} * splits_ + split) * kIndexKeys, seen - 1);
  };
  const auto keys = [&](std::uint32_t i) {
    const std::int64_t first = first_key(i);
    return Box{call_.k + (std::uint64_t{sequence} * u(call_.context) + u(first)) * row_bytes, 1,
               w(std::min(kIndexKeys, seen - first)) * row_bytes, 0};
  };
  // An 8-bit product of k elements takes the tensor cores as long as a 16-bit one of k / 2.
  const std::uint32_t k = wgmma_ && call_.element_bytes == 1 ? w(call_.dim) / 2 : w(call_.dim);
  const std::uint64_t scores = u(kIndexKeys) * rows * heads;

  if (co_await tile::item(trips - 1) != 0) co_return;
  co_await tile::load(Box{call_.q + q_row * heads * row_bytes, rows * heads, row_bytes, row_bytes});
  co_await tile::load(Box{call_.weights + q_row * heads * 4, rows, heads * 4, heads * 4});
  co_await tile::load(keys(0));
  for (std::uint32_t i = 0; i < trips; ++i) {
    if (i + 1 < trips) i += static_cast<std::uint32_t>(co_await tile::trip(trips - 1 - i));
    const bool more = i + 1 < trips;
    if (more) co_await tile::load(keys(i + 1));
    co_await tile::load_wait(more ? 1 : 0);
    if (wgmma_) {
      for (std::int64_t m = 0; m < kIndexKeys; m += kWgmmaRows)
        co_await tile::wgmma(kWgmmaRows, rows * heads, k);
      co_await tile::wgmma_wait(0);
    } else {
      co_await tile::shared_load(u(kIndexKeys) * row_bytes);
      co_await tile::mma(w(kIndexKeys), rows * heads, k);
    }
    // relu, times the head's weight, summed: a thread has a quarter of a key's heads.
    co_await tile::compute({.fma = scores, .integer = scores, .shuffle = u(kIndexKeys) * rows * 4 * 2},
                           u(rows) * heads / 4 * kAluLatency + 2 * (kShuffleLatency + kAluLatency));
    const std::int64_t first = first_key(i);
    co_await tile::store(Box{call_.logits + (q_row * u(call_.context) + u(first)) * 4, rows,
                             w(std::min(kIndexKeys, seen - first)) * 4, u(call_.context) * 4});
  }
}

// ---------------------------------------------------------------------------------------------------------

RowTopKKernel::RowTopKKernel(const RowTopK& call, const GpuSpec&) : call_{call} {
  shape_.name = fmt::format("topk {} of a row", call.selected);
  shape_.roles = {{"threads", kTopKThreads / 32}};
  shape_.registers_per_cta = kTopKThreads * 32;
  shape_.shared_bytes = 32768;
  operand_bytes_ = 0;
  for (const std::int64_t keys : call.keys) {
    // All of a short row are taken as they are.
    add_ctas(1, keys <= call.selected ? 1 : u(kPasses * ceil_div(keys, kTopKValues)));
    between_read_ += keys <= call.selected ? 0 : u(keys * call.sequences) * 4;
  }
  set_work(std::move(pieces_), u(call.sequences));
  between_written_ = u(call.sequences * call.selected) * call.keys.size() * 4;
}

tile::Program RowTopKKernel::body(std::uint32_t cta, std::uint32_t trips) const {
  const std::int64_t keys = call_.keys[cta % call_.keys.size()];
  const std::uint64_t row = std::uint64_t{cta} * u(call_.context) * 4;
  const std::uint32_t pass = std::max(1U, trips / kPasses);
  if (co_await tile::item(trips - 1) != 0) co_return;
  if (keys > call_.selected || trips > 1) {
    for (std::uint32_t i = 0; i < trips; ++i) {
      if (i + 1 < trips) i += static_cast<std::uint32_t>(co_await tile::trip(trips - 1 - i));
      const std::int64_t at = std::min<std::int64_t>(std::int64_t{i % pass} * kTopKValues, keys - 1);
      const auto n = w(std::min<std::int64_t>(kTopKValues, keys - at));
      co_await tile::load(Box{call_.logits + row + u(at) * 4, 1, n * 4, 0});
      co_await tile::load_wait();
      // The leading bits, and an atomic on shared memory for each: a bin, or the next place in the list.
      co_await tile::compute({.integer = std::uint64_t{n} * 6});
      co_await tile::shared_store(std::uint64_t{n} * 8);
    }
  }
  // Sums over 256 bins; the few values of the threshold's bin by their remaining bits.
  co_await tile::chain(2 * 8 * (30 + kAluLatency));
  co_await tile::store(
      Box{call_.lists + std::uint64_t{cta} * u(call_.selected) * 4, 1, w(call_.selected) * 4, 0});
}

}  // namespace tessera::kernels
