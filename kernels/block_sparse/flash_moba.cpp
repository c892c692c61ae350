#include "kernels/block_sparse/flash_moba.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/attention_prefill/softmax_cost.hpp"

namespace tessera::kernels {

using tile::Box;

namespace {

constexpr std::uint32_t kThreads = 128, kWarps = 4;
// Cycles. [arXiv 2402.13499: shared memory 29 to 33, L1 35 to 40; a taken branch refetches: about 10]
constexpr std::uint32_t kSharedLatency = 30, kL1Latency = 38, kBranchCycles = 10;
std::uint64_t u(std::int64_t n) { return static_cast<std::uint64_t>(n); }
std::uint32_t w(std::int64_t n) { return static_cast<std::uint32_t>(n); }

}  // namespace

// ---------------------------------------------------------------------------------------------------------

namespace {
constexpr std::uint32_t kPoolRows = 32;
}

BlockMeansKernel::BlockMeansKernel(const BlockMeans& means, const GpuSpec&) : means_{means} {
  shape_.name = "mean pool";
  shape_.roles = {{"warps", kWarps}};
  shape_.registers_per_cta = kThreads * 64;
  std::int64_t first = 0;
  for (const std::int64_t rows : means.rows) {
    first_.push_back(first);
    first += rows;
    add_ctas(1, u(std::max<std::int64_t>(1, (rows + kPoolRows - 1) / kPoolRows)));
  }
  first_.push_back(first);
  set_work(std::move(pieces_), u(means.kv_heads * means.sequences));
}

tile::Program BlockMeansKernel::body(std::uint32_t cta, std::uint32_t trips) const {
  const auto blocks = w(static_cast<std::int64_t>(means_.rows.size()));
  const std::uint32_t block = cta % blocks, head = cta / blocks % w(means_.kv_heads),
                      sequence = cta / blocks / w(means_.kv_heads);
  const std::uint32_t row_bytes = w(means_.head_dim) * means_.element_bytes;
  const std::uint64_t pitch = std::uint64_t{row_bytes} * u(means_.kv_heads);
  if (co_await tile::item(trips - 1) != 0) co_return;
  for (std::uint32_t i = 0; i < trips; ++i) {
    if (i + 1 < trips) i += static_cast<std::uint32_t>(co_await tile::trip(trips - 1 - i));
    const std::int64_t left = means_.rows[block] - std::int64_t{i} * kPoolRows;
    if (left <= 0) break;
    const std::uint64_t row = u(std::int64_t{sequence} * first_.back() + first_[block]) + i * kPoolRows;
    co_await tile::load(Box{means_.k + row * pitch + std::uint64_t{head} * row_bytes,
                            w(std::min<std::int64_t>(left, kPoolRows)), row_bytes, pitch});
    co_await tile::load_wait();
    const std::uint64_t elements = kPoolRows * u(means_.head_dim);
    co_await tile::compute({.fma = elements, .integer = elements / 2});
  }
  co_await tile::compute({.shuffle = std::uint64_t{kThreads} * 5});
  const std::uint64_t at = (std::uint64_t{sequence} * blocks + block) * u(means_.kv_heads) + head;
  co_await tile::store(Box{means_.out + at * means_.out_bytes, 1, means_.out_bytes, 0});
}

// ---------------------------------------------------------------------------------------------------------

TiledTopKKernel::TiledTopKKernel(const TiledTopK& topk, const GpuSpec& gpu)
    : topk_{topk}, barrier_{Chains{gpu.sm}.barrier} {
  const std::uint32_t rows = topk.tile_rows(), width = topk.tile_blocks(), d = w(topk.head_dim);
  shape_.name = fmt::format("flash_topk{} {}x{} d{}", topk.list(), rows, width, d);
  shape_.roles = {{"warps", kWarps}};
  shape_.registers_per_cta = kThreads * 168;
  // Q moves to registers; scores take its place.
  shape_.shared_bytes = std::int64_t{width} * d * topk.element_bytes + std::int64_t{rows} * topk.list() * 8 +
                        std::int64_t{rows} * std::max(d * topk.element_bytes, width * 4);
  shape_.prologue_cycles = 200;
  double visible = 0;
  for (const std::uint32_t blocks : topk.blocks) {
    add_ctas(1, std::max<std::uint32_t>(1, (blocks + width - 1) / width));
    visible += blocks;
  }
  // A score is among the k best of t with chance k / t, and then rises to any place alike; a warp goes
  // through its lists if any of its 32 rows inserts, and changes a pair of places if any of them does.
  const double mean = std::max(1.0, visible / static_cast<double>(topk.blocks.size()));
  const auto k = static_cast<double>(topk.topk);
  double inserting = 0, variance = 0, swaps = 0;
  for (double t = 1; t <= mean; ++t) {
    const double chance = std::min(1.0, k / t), any = 1 - std::pow(1 - chance, 32.0);
    inserting += any;
    variance += any * (1 - any);
    for (double place = 1; place < k; ++place) swaps += 1 - std::pow(1 - chance * (k - place) / k, 32.0);
  }
  inserting_columns_ = inserting / mean * width;
  swaps_ = swaps / mean * width;
  // A barrier behind every tile waits for the warp with most insertions: of four normal variables the
  // greatest lies 1.03 standard deviations above the mean.
  slowest_warp_ = 1 + 1.03 * std::sqrt(variance / mean * width) / inserting_columns_;
  set_work(std::move(pieces_), u(topk.heads * topk.sequences));
}

tile::Program TiledTopKKernel::body(std::uint32_t cta, std::uint32_t trips) const {
  const std::uint32_t d = w(topk_.head_dim), width = topk_.tile_blocks(), row_bytes = d * topk_.element_bytes;
  const auto tiles = static_cast<std::uint32_t>(topk_.blocks.size());
  const std::uint32_t first = cta % tiles * topk_.tile_rows(), head = cta / tiles % w(topk_.heads),
                      sequence = cta / tiles / w(topk_.heads),
                      kv_head = head / w(topk_.heads / topk_.kv_heads);
  const std::uint32_t rows =
      std::min(topk_.tile_rows(), w(topk_.q_rows) - std::min(w(topk_.q_rows) - 1, first));
  const std::uint64_t q_row = u(std::int64_t{sequence} * topk_.q_rows) + first;
  const std::uint64_t q_pitch = std::uint64_t{row_bytes} * u(topk_.heads),
                      km_pitch = std::uint64_t{row_bytes} * u(topk_.kv_heads);
  const auto means = [&](std::uint32_t n) {
    const std::uint32_t from = std::min(n * width, w(topk_.all_blocks) - 1);
    return Box{topk_.means + (u(std::int64_t{sequence} * topk_.all_blocks) + from) * km_pitch +
                   std::uint64_t{kv_head} * row_bytes,
               std::min(width, w(topk_.all_blocks) - from), row_bytes, km_pitch};
  };
  const std::uint64_t scores = std::uint64_t{topk_.tile_rows()} * width;
  const std::uint64_t list_bytes = std::uint64_t{topk_.tile_rows()} * topk_.list() * 8;
  // A warp: a wavefront of 128 B moves what 32 lanes ask for if they ask for 32 banks. A list is moved a word
  // at a time (nothing tells the compiler that it is aligned), and lists lie list() words apart.
  constexpr std::uint64_t kWavefront = 128;
  const std::uint64_t list_conflicts = std::min(32U, topk_.list());

  if (co_await tile::item(trips - 1) != 0) co_return;
  co_await tile::load(
      Box{topk_.q + q_row * q_pitch + std::uint64_t{head} * row_bytes, rows, row_bytes, q_pitch});
  co_await tile::load(means(trips - 1));
  co_await tile::load_wait();
  co_await tile::chain(barrier_);
  co_await tile::shared_load(std::uint64_t{topk_.tile_rows()} * row_bytes);
  for (std::uint32_t i = 0; i < trips; ++i) {
    if (i + 1 < trips) i += static_cast<std::uint32_t>(co_await tile::trip(trips - 1 - i));
    co_await tile::load_wait();
    co_await tile::chain(barrier_);
    co_await tile::shared_load(std::uint64_t{kWarps} * width * row_bytes);
    co_await tile::mma(topk_.tile_rows(), width, d);
    if (i + 1 < trips) co_await tile::load(means(trips - 2 - i));
    // Two floats a lane, eight rows to a warp, all rows in the same banks.
    co_await tile::shared_store(scores * 4 * 4);
    co_await tile::chain(barrier_);
    co_await tile::shared_load(list_bytes * list_conflicts);
    // Scores: lanes a row of 32 (64) floats apart, all in one bank: 32 wavefronts for a column.
    co_await tile::shared_load(std::uint64_t{kWarps} * width * 32 * kWavefront);
    // One column after another, as the branch waits for its score, whose 32 wavefronts come one a cycle.
    co_await tile::compute({.fma = scores, .integer = 4 * scores},
                           std::uint64_t{width} * (kSharedLatency + 31 + kBranchCycles + kAluLatency));
    // Lists are indexed by a variable, so they live in local memory, behind the L1: the last entry is read
    // for every column; an insertion goes through the whole list, reads two values at each step, and where
    // they change places two ids, and writes all four.
    const auto steps = static_cast<std::uint64_t>(inserting_columns_ * static_cast<double>(topk_.topk - 1));
    const auto swaps = static_cast<std::uint64_t>(swaps_);
    co_await tile::l1_load(kWarps * (steps * 2 + swaps * 6 + width + 4 * topk_.list()) * kWavefront);
    co_await tile::chain(static_cast<std::uint64_t>(
        slowest_warp_ *
        static_cast<double>(steps * (kL1Latency + kAluLatency + 2 * kBranchCycles) + swaps * kL1Latency)));
    co_await tile::shared_store(list_bytes * list_conflicts);
    co_await tile::chain(barrier_);
  }
  if (topk_.counts != 0) {
    // An atomic for each row and entry, on the counter of its block.
    for (std::uint32_t n = 0; n < topk_.topk; ++n)
      co_await tile::store(Box{topk_.counts + (std::uint64_t{head} * u(topk_.all_blocks)) * 4, rows, 4, 4});
  }
  const std::uint32_t entry = topk_.padded ? topk_.list() : w(topk_.topk);
  const std::uint64_t list_pitch = u(topk_.heads) * entry * 4,
                      at = q_row * list_pitch + std::uint64_t{head} * entry * 4;
  co_await tile::shared_load(list_bytes);
  co_await tile::store(Box{topk_.indices + at, rows, entry * 4, list_pitch});
  if (topk_.values != 0) co_await tile::store(Box{topk_.values + at, rows, entry * 4, list_pitch});
}

// ---------------------------------------------------------------------------------------------------------

namespace {

/// Prefix sums of the counts of each head's blocks by one thread.
class OffsetsKernel final : public LoopKernel<OffsetsKernel> {
 public:
  OffsetsKernel(std::uint64_t blocks, std::uint64_t heads, std::uint64_t counts) : counts_{counts} {
    shape_.name = "offsets";
    shape_.roles = {{"thread", 1}};
    shape_.registers_per_cta = 32 * 32;
    set_work({{heads, static_cast<std::uint32_t>((blocks + 31) / 32)}}, 1);
  }

 private:
  friend class LoopKernel<OffsetsKernel>;
  tile::Program body(std::uint32_t cta, std::uint32_t trips) const {
    if (co_await tile::item(trips - 1) != 0) co_return;
    for (std::uint32_t i = 0; i < trips; ++i) {
      if (i + 1 < trips) i += static_cast<std::uint32_t>(co_await tile::trip(trips - 1 - i));
      const std::uint64_t at = counts_ + (std::uint64_t{cta} * trips + i) * tile::kLineBytes;
      co_await tile::load(Box{at, 1, 128, 0});
      co_await tile::load_wait();
      co_await tile::chain(32 * (kL1Latency + kAluLatency));
      co_await tile::store(Box{at + (std::uint64_t{1} << 30U), 1, 256, 0});
    }
  }
  std::uint64_t counts_;
};

/// Each id to the next place of its block's list: an atomic that answers, and a store, a sector each.
class ScatterKernel final : public LoopKernel<ScatterKernel> {
 public:
  ScatterKernel(std::uint64_t pairs, std::uint64_t indices, std::uint64_t lists)
      : indices_{indices}, lists_{lists}, pairs_{pairs} {
    shape_.name = "scatter ids";
    shape_.roles = {{"threads", kWarps}};
    shape_.registers_per_cta = kThreads * 40;
    between_read_ = pairs * 4;
    between_written_ = pairs * 4;
    set_work({{(pairs + kEach - 1) / kEach, kEach / kThreads}}, 1);
  }

 private:
  friend class LoopKernel<ScatterKernel>;
  static constexpr std::uint64_t kEach = 2048;
  tile::Program body(std::uint32_t cta, std::uint32_t trips) const {
    if (co_await tile::item(trips - 1) != 0) co_return;
    for (std::uint32_t i = 0; i < trips; ++i) {
      if (i + 1 < trips) i += static_cast<std::uint32_t>(co_await tile::trip(trips - 1 - i));
      const std::uint64_t first = std::uint64_t{cta} * kEach + std::uint64_t{i} * kThreads;
      co_await tile::load(Box{indices_ + first * 4, 1, kThreads * 4, 0});
      co_await tile::load_wait();
      co_await tile::load(Box{lists_ + pairs_ * 4 + first % 4096 * 4, kThreads, 4, 4096});
      co_await tile::load_wait();
      co_await tile::store(Box{lists_ + first % 4096 * 4, kThreads, 4, 4096});
    }
  }
  std::uint64_t indices_, lists_, pairs_;
};

/// cub::DeviceSegmentedSort of int32 keys, segments of hundreds to thousands of keys: a CTA of 256 threads
/// sorts one in shared memory, 6 bits a pass.
class SortKernel final : public LoopKernel<SortKernel> {
 public:
  SortKernel(std::uint64_t pairs, std::uint64_t segments, std::uint64_t lists) : lists_{lists} {
    keys_ = static_cast<std::uint32_t>(std::max<std::uint64_t>(1, pairs / segments));
    shape_.name = "segmented sort";
    shape_.roles = {{"threads", 8}};
    shape_.registers_per_cta = 256 * 64;
    shape_.shared_bytes = 40960;
    between_read_ = pairs * 4;
    between_written_ = pairs * 4;
    // Tiles of at most 4864 keys; longer segments pass through memory once for every 6 bits.
    const std::uint64_t tiles = (keys_ + kTile - 1) / kTile;
    set_work({{segments, static_cast<std::uint32_t>(tiles == 1 ? 1 : kPasses * tiles)}}, 1);
  }

 private:
  friend class LoopKernel<SortKernel>;
  static constexpr std::uint32_t kTile = 4864, kPasses = 6;
  tile::Program body(std::uint32_t cta, std::uint32_t trips) const {
    const std::uint32_t keys = std::min(keys_, kTile);
    const Box box{lists_ + std::uint64_t{cta} * keys_ * 4, 1, keys * 4, 0};
    if (co_await tile::item(trips - 1) != 0) co_return;
    for (std::uint32_t i = 0; i < trips; ++i) {
      if (i + 1 < trips) i += static_cast<std::uint32_t>(co_await tile::trip(trips - 1 - i));
      co_await tile::load(box);
      co_await tile::load_wait();
      // The block sort ranks every place of the tile, padding too: digit, match, count, prefix, exchange.
      for (std::uint32_t pass = 0; pass < (trips == 1 ? kPasses : 1); ++pass) {
        co_await tile::compute({.integer = std::uint64_t{kTile} * 24}, 600);
        co_await tile::shared_store(std::uint64_t{kTile} * 8);
        co_await tile::shared_load(std::uint64_t{kTile} * 8);
      }
      co_await tile::store(box);
    }
  }
  std::uint64_t lists_;
  std::uint32_t keys_;
};

}  // namespace

std::vector<std::unique_ptr<tile::Kernel>> list_kernels(std::uint64_t pairs, std::uint64_t blocks,
                                                        std::uint64_t heads, std::uint64_t indices,
                                                        std::uint64_t lists, const GpuSpec&) {
  std::vector<std::unique_ptr<tile::Kernel>> kernels;
  if (pairs == 0) return kernels;
  kernels.push_back(std::make_unique<OffsetsKernel>(blocks, heads, lists + pairs * 4));
  kernels.push_back(std::make_unique<ScatterKernel>(pairs, indices, lists));
  kernels.push_back(std::make_unique<SortKernel>(pairs, blocks * heads, lists));
  return kernels;
}

// ---------------------------------------------------------------------------------------------------------

namespace {
constexpr std::uint32_t kGatherRows = 64, kMostRangeRows = 1024;
// 16 threads for a row of unfinished outputs, 16 B each: eight rows, and 256 B of each, at a time.
constexpr std::uint32_t kGroupRows = 8, kGroupRowBytes = 256;
constexpr std::uint32_t kIdsPerSector = 8;
/// How often something that happens `sixteenths` / 16 times a trip happens in trip i.
std::uint32_t times(std::uint32_t sixteenths, std::uint32_t i) {
  return static_cast<std::uint32_t>((std::uint64_t{i} + 1) * sixteenths / 16 -
                                    std::uint64_t{i} * sixteenths / 16);
}
}  // namespace

GatherAttentionKernel::GatherAttentionKernel(const GatherAttention& call, const GpuSpec& gpu) : call_{call} {
  const std::uint32_t d = w(call.head_dim);
  shape_.name = fmt::format("flash_moba {}x64 d{} of {} keys", kGatherRows, d, call.block_keys);
  shape_.roles = {{"warps", kWarps}};
  shape_.registers_per_cta = std::min<std::int64_t>(gpu.sm.registers / 2, kThreads * 255);
  // Q in the place of fp32 outputs, K, V tiles; of 1024 rows ids and, four times over, sums and maxima.
  shape_.shared_bytes = std::int64_t{kGatherRows} * d * 4 + std::int64_t{2} * 64 * d * call.element_bytes +
                        kMostRangeRows * (4 + 2 * 4 * 4);
  shape_.prologue_cycles = 200;
  double rows = 0, tiles = 0, visits = 0;
  for (const GatherAttention::Range& r : call.ranges) {
    const auto trips = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::lround(r.tiles)));
    add_ctas(1, trips);
    rows += r.rows;
    tiles += static_cast<double>(trips);
    visits += r.visits;
  }
  mean_rows_ = static_cast<std::uint32_t>(std::clamp<double>(std::round(rows / tiles), 1, kGatherRows));
  // In sixteenths, so that excerpts of 16 trips are whole: of any number of rows the last eight are half
  // there.
  searches_ = static_cast<std::uint32_t>(std::lround(16 * visits / tiles));
  groups_ = static_cast<std::uint32_t>(
      std::lround(16 * std::clamp((rows / tiles + 0.5 * (kGroupRows - 1)) / kGroupRows, 1.0,
                                  double{kGatherRows} / kGroupRows)));
  barrier_ = Chains{gpu.sm}.barrier;
  l2_cycles_ = static_cast<std::uint32_t>(gpu.l2.hit_latency + gpu.l2.far_latency / 2) + kL1Latency;
  const std::uint64_t row = u(call.head_dim);
  between_read_ = call.pairs * (row * 4 + 4);
  between_written_ = call.pairs * row * 4;
  // Ranges of a head start together, each at its own block: those that lie in one block go through the blocks
  // in step, the next ones are some visits behind. Where what all resident CTAs read meanwhile exceeds the
  // L2, keys and values come from HBM once for each such group of ranges.
  const double in_step =
      std::max(1.0, static_cast<double>(call.block_keys) / static_cast<double>(call.range_rows));
  const double behind =
      std::max(1.0, static_cast<double>(call.range_rows) / static_cast<double>(call.block_keys));
  const double visit_bytes = 2.0 * static_cast<double>(call.block_keys * call.head_dim * call.element_bytes);
  const double heads =
      call.ranges.size() == call.ranges_per_head ? static_cast<double>(call.sequences * call.heads) : 1.0;
  constexpr double kResident = 2;  // of shared memory
  if (visit_bytes * behind * kResident * gpu.sms() / in_step > static_cast<double>(gpu.l2.bytes))
    reread_bytes_ = static_cast<std::uint64_t>(visit_bytes * tiles * heads / in_step);
  set_work(std::move(pieces_),
           call.ranges.size() == call.ranges_per_head ? u(call.sequences * call.heads) : 1);
}

tile::Program GatherAttentionKernel::body(std::uint32_t cta, std::uint32_t trips) const {
  const std::uint32_t d = w(call_.head_dim), row_bytes = d * call_.element_bytes;
  const auto ranges = static_cast<std::uint32_t>(call_.ranges_per_head);
  const std::uint32_t range = cta % ranges, all_head = cta / ranges, head = all_head % w(call_.heads),
                      sequence = all_head / w(call_.heads);
  const std::uint32_t first = range * w(call_.range_rows);
  const std::uint64_t q_row = u(std::int64_t{sequence} * call_.q_rows) + first;
  const std::uint64_t q_pitch = std::uint64_t{row_bytes} * u(call_.heads),
                      q_column = std::uint64_t{head} * row_bytes;
  const std::uint64_t kv_pitch = std::uint64_t{row_bytes} * u(call_.kv_heads);
  const std::uint64_t kv_offset = u(std::int64_t{sequence} * call_.kv_rows) * kv_pitch +
                                  std::uint64_t{head / w(call_.heads / call_.kv_heads)} * row_bytes;
  const std::uint64_t kv_tiles = u((call_.block_keys + 63) / 64);
  const std::uint64_t scores = std::uint64_t{kGatherRows} * 64, outputs = std::uint64_t{kGatherRows} * d;
  const std::uint64_t operand_bytes = std::uint64_t{kWarps} * 64 * row_bytes;
  constexpr std::uint64_t kRowsPerThread = 2, reduction = 64 / 4 * kAluLatency;
  const auto keys = [&](std::uint64_t base, std::uint32_t i, std::uint64_t n) {
    const std::uint64_t row = std::min<std::uint64_t>(
        (std::uint64_t{trips - 1 - i} * kv_tiles + n) * 64 % std::max<std::uint64_t>(64, u(call_.kv_rows)),
        u(call_.kv_rows - 1));
    const auto rows = static_cast<std::uint32_t>(std::min<std::uint64_t>(64, u(call_.kv_rows) - row));
    return Box{base + kv_offset + row * kv_pitch, rows, row_bytes, kv_pitch};
  };
  // Gathered rows lie evenly over the range.
  const std::uint32_t in_range =
      std::min(w(call_.range_rows), w(call_.q_rows) - std::min(w(call_.q_rows) - 1, first));
  const std::uint32_t gathered = std::min(mean_rows_, in_range);
  const std::uint64_t apart = in_range / gathered;
  const Box q_box{call_.q + q_row * q_pitch + q_column, gathered, row_bytes, apart * q_pitch};
  const std::uint32_t unfinished_bytes = d * 4;
  const std::uint64_t unfinished_pitch = std::uint64_t{unfinished_bytes} * u(call_.heads);
  const std::uint64_t unfinished =
      call_.unfinished + q_row * unfinished_pitch + std::uint64_t{head} * unfinished_bytes;
  const Box o_box{unfinished, gathered, unfinished_bytes, apart * unfinished_pitch};
  const std::uint64_t list_base = call_.lists + std::uint64_t{all_head} * call_.list_length * 4;
  const auto steps = static_cast<std::uint32_t>(std::bit_width(call_.list_length));
  const std::uint32_t near_steps = std::min(steps, static_cast<std::uint32_t>(std::bit_width(kIdsPerSector))),
                      far_steps = steps - near_steps, step_cycles = 3 * kAluLatency + kBranchCycles;

  if (co_await tile::item(trips - 1) != 0) co_return;
  for (std::uint32_t i = 0; i < trips; ++i) {
    if (i + 1 < trips) i += static_cast<std::uint32_t>(co_await tile::trip(trips - 1 - i));
    // The ids of this range in the block's list: where it begins and how long it is, then two binary
    // searches, one after the other's steps. Other ranges of the head have just been through the list, so it
    // is in the L2; the last steps are within a sector, in the L1.
    for (std::uint32_t n = times(searches_, i); n > 0; --n) {
      co_await tile::load(Box{list_base + std::uint64_t{i} * 4096 % (1U << 28U), 1, 16, 0});
      co_await tile::load_wait();
      co_await tile::chain(
          2 * (far_steps * (l2_cycles_ + step_cycles) + near_steps * (kL1Latency + step_cycles)));
    }
    co_await tile::load(Box{list_base + std::uint64_t{i} * 4096 % (1U << 28U), 1, gathered * 4, 0});
    co_await tile::load_wait();
    co_await tile::shared_store(std::uint64_t{gathered} * 4);
    co_await tile::chain(barrier_);
    co_await tile::load(keys(call_.k, i, kv_tiles - 1));
    // Unfinished outputs come through registers to shared memory, eight rows and 256 B at a time: an id has
    // to be read from shared memory after what was written there, so each waits for the one before. Then into
    // the accumulators.
    for (std::uint32_t group = 0, all = times(groups_, i); group < all; ++group) {
      const std::uint64_t row = std::min(group * kGroupRows, gathered - 1);
      const std::uint32_t rows = std::min(kGroupRows, gathered - static_cast<std::uint32_t>(row));
      for (std::uint32_t from = 0; from < unfinished_bytes; from += kGroupRowBytes) {
        const std::uint32_t bytes = std::min(kGroupRowBytes, unfinished_bytes - from);
        co_await tile::chain(kSharedLatency + 2 * kAluLatency);
        co_await tile::load(
            Box{unfinished + row * apart * unfinished_pitch + from, rows, bytes, apart * unfinished_pitch});
        co_await tile::load_wait();
        co_await tile::shared_store(std::uint64_t{rows} * bytes);
      }
    }
    co_await tile::chain(barrier_);
    co_await tile::shared_load(outputs * 4);
    co_await tile::chain(barrier_);
    co_await tile::load(q_box);
    for (std::uint64_t n = kv_tiles; n-- > 0;) {
      co_await tile::load_wait();
      co_await tile::chain(barrier_);
      co_await tile::load(keys(call_.v, i, n));
      co_await tile::shared_load(operand_bytes + outputs * call_.element_bytes);
      co_await tile::mma(kGatherRows, 64, d);
      co_await tile::load_wait();  // V is waited for before the softmax
      co_await tile::chain(barrier_);
      if (n > 0) co_await tile::load(keys(call_.k, i, n - 1));
      // Row maxima and sums live in shared memory, found by id, row by row. A thread has a quarter of the
      // columns of two rows.
      co_await tile::chain(kRowsPerThread * 2 * kSharedLatency);
      co_await tile::shared_load(std::uint64_t{4} * kGatherRows * 2 * 8);
      co_await tile::compute(
          {.integer = 3 * scores, .shuffle = std::uint64_t{4} * kGatherRows * 2},
          reduction + 2 * (kShuffleLatency + kAluLatency) + 2 * kAluLatency + kMufuLatency);
      co_await tile::compute({.fma = 2 * scores, .mufu = scores}, kAluLatency + kMufuLatency);
      co_await tile::compute({.fma = outputs, .convert = scores / 2}, reduction);
      co_await tile::chain(kRowsPerThread * kSharedLatency);
      co_await tile::shared_store(std::uint64_t{4} * kGatherRows * 2 * 8);
      co_await tile::shared_load(operand_bytes);
      co_await tile::mma(kGatherRows, d, 64);
    }
    // Back the same way; a store is not waited for, but its id is.
    co_await tile::shared_store(outputs * 4);
    co_await tile::chain(barrier_);
    co_await tile::shared_load(std::uint64_t{gathered} * unfinished_bytes);
    co_await tile::chain((gathered + kGroupRows - 1) / kGroupRows *
                         ((unfinished_bytes - 1) / kGroupRowBytes + 1) * (kSharedLatency + 2 * kAluLatency));
    co_await tile::store(o_box);
  }
  // Normalises the whole range, 64 rows at a time.
  for (std::uint32_t row = 0; row < in_range; row += kGatherRows) {
    const std::uint32_t rows = std::min(kGatherRows, in_range - row);
    co_await tile::load(Box{unfinished + row * unfinished_pitch, rows, unfinished_bytes, unfinished_pitch});
    co_await tile::load_wait();
    co_await tile::compute({.fma = outputs, .mufu = std::uint64_t{kGatherRows} * 4, .convert = outputs / 2});
    co_await tile::store(Box{call_.out + (q_row + row) * q_pitch + q_column, rows, row_bytes, q_pitch});
    const std::uint64_t stats_pitch = u(call_.heads) * 8;
    if (call_.stats != 0)
      co_await tile::store(
          Box{call_.stats + (q_row + row) * stats_pitch + std::uint64_t{head} * 8, rows, 8, stats_pitch});
  }
}

}  // namespace tessera::kernels
