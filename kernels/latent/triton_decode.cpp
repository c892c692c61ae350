#include "kernels/latent/triton_decode.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "kernels/tile/occupancy.hpp"

namespace tessera::kernels {

using tile::Box;
using tile::Program;

namespace {

constexpr std::int64_t kKeysPerSplit = 512, kCtasPerSm = 2;  // triton_mla.py
constexpr std::uint32_t kMmaDepth = 16, kMmaRows = 16;       // of mma.sync m16n8k16
constexpr std::uint32_t kThreads = TritonLatentDecode::kWarps * 32, kCopyBytes = 16;
// The queries of 16 heads take 144 registers a thread, sums 64; with addresses and fragments the kernel takes
// what there is.
constexpr std::int64_t kMostRegisters = 255;
// Of a cp.async: a 64-bit sum for its address, its bound, where it goes.
constexpr std::uint64_t kCopyOps = 4;

std::uint32_t ceil_div(std::int64_t a, std::int64_t b) { return static_cast<std::uint32_t>((a + b - 1) / b); }
std::uint64_t u(std::int64_t n) { return static_cast<std::uint64_t>(n); }

}  // namespace

std::uint32_t triton_splits(std::int64_t context, std::int64_t sms) {
  const std::uint64_t ideal = std::bit_ceil(u(std::max<std::int64_t>(1, context / kKeysPerSplit)));
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(ideal, u(kCtasPerSm * sms)));
}

// ---------------------------------------------------------------------------------------------------------
// Stage 1.

TritonLatentDecode::TritonLatentDecode(const TritonLatentCall& call, const GpuSpec& gpu)
    : call_{call},
      chains_{gpu.sm},
      qk_width_{call.latent + call.rope},
      value_width_{std::bit_ceil(call.latent)},
      l2_bytes_{u(gpu.l2.bytes)} {
  // The widths that the launcher knows are two products; others are padded to a power of two.
  const bool known = (call.latent == 512 && call.rope == 64) || (call.latent == 256 && call.rope == 32);
  if (!known) qk_width_ = std::bit_ceil(qk_width_);
  scores_chain_ = (qk_width_ / kMmaDepth - 1) * chains_.tensor;
  sums_chain_ = (kKeys / kMmaDepth - 1) * chains_.tensor;
  shape_.name = fmt::format("triton mla decode {}+{} splits {}", call.latent, call.rope, call.splits);
  shape_.grid = static_cast<std::uint32_t>(call.batch) * head_blocks() * call.splits;
  shape_.roles = {{"warps", kWarps}};
  shape_.registers_per_cta = kThreads * kMostRegisters;
  // The tile; queries, reductions and results pass through it before and after the loop.
  shape_.shared_bytes = static_cast<std::int64_t>(
      std::max<std::uint64_t>(kKeys * call.row_bytes(), std::uint64_t{kHeads} * call.latent * 4) + 1024);
  shape_.prologue_cycles = 200;
  slots_ = std::uint64_t{tile::resident_ctas(gpu.sm, shape_)} * u(gpu.sms());
  for (std::uint32_t s = 0; s < call.splits; ++s)
    shape_.trips += part(s * static_cast<std::uint32_t>(call.batch) * head_blocks()).alike(1);
  shape_.trips *= u(call.batch) * head_blocks();
  shape_.even_trips = shape_.trips;
}

std::uint32_t TritonLatentDecode::head_blocks() const { return ceil_div(call_.heads, kHeads); }

TritonLatentDecode::Part TritonLatentDecode::part(std::uint32_t index) const {
  // The grid is (sequences, blocks of heads, splits).
  const auto batch = static_cast<std::uint32_t>(call_.batch);
  Part p{};
  p.batch = index % batch;
  p.head = index / batch % head_blocks() * kHeads;
  p.heads = static_cast<std::uint32_t>(std::min<std::int64_t>(kHeads, call_.heads - p.head));
  p.split = index / batch / head_blocks();
  p.first = std::min(call_.context, p.split * call_.keys_per_split());
  p.last = std::min(call_.context, p.first + call_.keys_per_split());
  p.tiles = ceil_div(p.last - p.first, kKeys);
  return p;
}

Box TritonLatentDecode::keys(const Part& p, std::uint32_t tile) const {
  const std::int64_t first = p.first + std::int64_t{tile} * kKeys;
  const auto row_bytes = static_cast<std::uint32_t>(call_.row_bytes());
  return {call_.cache + (u(call_.context) * p.batch + u(first)) * row_bytes,
          static_cast<std::uint32_t>(std::min<std::int64_t>(kKeys, p.last - first)), row_bytes, row_bytes};
}

tile::Outline TritonLatentDecode::outline() const {
  tile::Outline o;
  const std::uint64_t each = u(call_.batch) * head_blocks();
  for (std::uint32_t s = 0; s < call_.splits; ++s) {
    const std::uint32_t tiles = part(s * static_cast<std::uint32_t>(each)).tiles;
    if (!o.pieces.empty() && o.pieces.back().trips == tiles)
      o.pieces.back().count += each;
    else
      o.pieces.push_back({each, tiles});
  }
  o.key = fmt::format("triton mla {} {} {} {} {}", call_.latent, call_.rope,
                      std::min<std::int64_t>(kHeads, call_.heads), call_.element_bytes, call_.q_between);
  const std::uint64_t rows = u(call_.batch * call_.heads), cached = u(call_.batch * call_.context);
  o.load_bytes = (rows * call_.splits + cached * head_blocks()) * call_.row_bytes();
  o.store_bytes = o.between_written = call_.used_parts_bytes();
  o.operand_bytes = static_cast<std::int64_t>(((call_.q_between ? 0 : rows) + cached) * call_.row_bytes());
  if (call_.q_between) o.between_read = rows * call_.row_bytes();
  // CTAs of other heads of a split start as many CTAs later as there are sequences: in another wave, if those
  // fill the SMs, when the L2 may have lost what they share.
  const std::uint64_t between = u(call_.batch * call_.keys_per_split()) * call_.row_bytes();
  if (between > l2_bytes_) {
    o.reread_bytes = cached * call_.row_bytes();
    o.rereads = std::min<std::uint64_t>(head_blocks(), (each + slots_ - 1) / slots_);
  }
  return o;
}

std::unique_ptr<tile::Kernel> TritonLatentDecode::excerpt(std::uint32_t ctas, std::uint32_t,
                                                          std::uint32_t trips) const {
  auto e = std::make_unique<TritonLatentDecode>(*this);
  e->call_.batch = ctas;
  e->call_.heads = std::min<std::int64_t>(kHeads, call_.heads);
  e->call_.splits = 1;
  e->call_.context = std::int64_t{trips} * kKeys;
  e->call_.pages -= call_.pages % tile::kLineBytes;  // where in a line they begin is the allocator's choice
  e->shape_.grid = ctas;
  return e;
}

Program TritonLatentDecode::program(tile::Cta cta, std::uint32_t) const {
  const Part p = part(cta.index);
  const std::uint32_t e = call_.element_bytes, latent_bytes = call_.latent * e, rope_bytes = call_.rope * e;
  const std::uint64_t scores = std::uint64_t{kMmaRows} * kKeys,
                      outputs = std::uint64_t{kMmaRows} * value_width_,
                      q_bytes = std::uint64_t{kMmaRows} * call_.row_bytes();
  const std::uint64_t row = u(call_.heads) * p.batch + p.head;
  // A reduction over a tile's keys: lanes, a value of each warp to shared memory, sums of those, back to all.
  const std::uint64_t reduction =
      Chains::alu(2) + Chains::lane_sum(4) + Chains::lane_sum(kWarps) + 2 * chains_.exchange();
  if (co_await tile::item(p.alike(1)) != 0) co_return;

  co_await tile::load(Box{call_.lengths + std::uint64_t{p.batch} * 4, 1, 4, 0});
  co_await tile::load(
      Box{call_.q_latent + row * call_.q_latent_pitch, p.heads, latent_bytes, call_.q_latent_pitch});
  co_await tile::load(Box{call_.q_rope + row * call_.q_rope_pitch, p.heads, rope_bytes, call_.q_rope_pitch});
  co_await tile::load_wait();
  // To every warp, as operands.
  co_await tile::shared_store(q_bytes);
  co_await tile::named_sync(1, 1);
  co_await tile::shared_load(kWarps * q_bytes);
  if (p.tiles == 0) co_return;

  std::uint64_t page_line = 0;
  for (std::uint32_t i = 0; i <= p.tiles; ++i) {  // tile i - 1 is worked on, then tile i asked for
    if (i > 0) {
      // The next tile is on its way: it stands for that of the tile gone on with.
      if (const std::uint32_t n = p.alike(i - 1); n > 0)
        i += static_cast<std::uint32_t>(co_await tile::trip(n));
      co_await tile::load_wait();
      co_await tile::named_sync(1, 1);
      co_await tile::mma(kMmaRows, kKeys, qk_width_, kKeys * call_.row_bytes());  // S = Q K^T
      co_await tile::chain(scores_chain_);
      // Scaled and masked; maxima, the factor for what was summed so far; exponentials and their sums; P to
      // all warps, as an operand.
      co_await tile::compute({.fma = scores, .integer = 3 * scores, .shuffle = 4 * std::uint64_t{kThreads}},
                             Chains::alu(3));
      co_await tile::chain(reduction);
      co_await tile::compute({.fma = 2 * scores, .mufu = scores + std::uint64_t{kMmaRows} * kWarps * 4},
                             Chains::alu(2) + Chains::exponential());
      co_await tile::compute({.fma = scores, .convert = scores / 2, .shuffle = 4 * std::uint64_t{kThreads}});
      co_await tile::chain(reduction);
      co_await tile::shared_store(scores * e);
      co_await tile::chain(chains_.exchange());
      co_await tile::shared_load(kWarps * scores * e);
      co_await tile::compute({.fma = outputs});
      co_await tile::mma(kMmaRows, value_width_, kKeys, std::uint64_t{kKeys} * latent_bytes);  // O += P V
      co_await tile::chain(sums_chain_);
      co_await tile::named_sync(1, 1);
    }
    if (i == p.tiles) break;
    // Page numbers first: not copied ahead, as two stages leave no time for them.
    const Box box = keys(p, i);
    const std::uint64_t page =
        call_.pages + 4 * (p.batch * u((call_.context + models::kPageRows - 1) / models::kPageRows) +
                           (u(p.first) + std::uint64_t{i} * kKeys) / models::kPageRows);
    if (const std::uint64_t line = page / tile::kLineBytes; line != page_line) {
      co_await tile::load(Box{page, 1, 4, 0});
      co_await tile::load_wait();
      page_line = line;
    } else {
      co_await tile::chain(chains_.l1);
    }
    co_await tile::compute({.integer = kCopyOps * kKeys * call_.row_bytes() / kCopyBytes}, Chains::alu(6));
    co_await tile::load(box);
  }
  co_await tile::compute({.fma = 5 * outputs, .mufu = outputs}, Chains::division());
  // Through shared memory, so that threads store neighbouring columns.
  co_await tile::shared_store(outputs * 4);
  co_await tile::named_sync(1, 1);
  co_await tile::shared_load(outputs * 4);
  co_await tile::store(Box{call_.parts + (row * call_.splits + p.split) * call_.part_bytes(), p.heads,
                           static_cast<std::uint32_t>(call_.part_bytes()),
                           call_.splits * call_.part_bytes()});
}

// ---------------------------------------------------------------------------------------------------------
// Stage 2.

TritonLatentReduce::TritonLatentReduce(const TritonLatentCall& call)
    : call_{call}, trips_{static_cast<std::uint32_t>(call.used_splits())} {
  shape_.name = fmt::format("triton mla reduce {}", call.splits);
  shape_.grid = static_cast<std::uint32_t>(call.batch * call.heads);
  shape_.roles = {{"warps", 4}};
  shape_.registers_per_cta = 128 * 32;
  shape_.prologue_cycles = 200;
  shape_.trips = shape_.even_trips = std::uint64_t{shape_.grid} * (trips_ - 1);
}

tile::Outline TritonLatentReduce::outline() const {
  tile::Outline o;
  o.pieces = {{shape_.grid, trips_}};
  o.key = fmt::format("triton mla reduce {} {} {}", call_.latent, call_.element_bytes, call_.max_expsum != 0);
  o.load_bytes = o.between_read = call_.used_parts_bytes();
  o.store_bytes = std::uint64_t{shape_.grid} *
                  (std::uint64_t{call_.latent} * call_.element_bytes + (call_.max_expsum != 0 ? 8 : 0));
  o.operand_bytes = 0;
  return o;
}

std::unique_ptr<tile::Kernel> TritonLatentReduce::excerpt(std::uint32_t ctas, std::uint32_t,
                                                          std::uint32_t trips) const {
  auto e = std::make_unique<TritonLatentReduce>(*this);
  e->call_.batch = ctas;
  e->call_.heads = 1;
  e->call_.splits = std::max(1U, trips);  // one after another, however many there are
  e->trips_ = trips;
  e->shape_.grid = ctas;
  return e;
}

Program TritonLatentReduce::program(tile::Cta cta, std::uint32_t) const {
  if (co_await tile::item(trips_ - 1) != 0) co_return;
  co_await tile::load(Box{call_.lengths + cta.index / u(call_.heads) * 4, 1, 4, 0});
  co_await tile::load_wait();
  for (std::uint32_t s = 0; s < trips_; ++s) {
    if (s + 1 < trips_) s += static_cast<std::uint32_t>(co_await tile::trip(trips_ - 1 - s));
    // A loop without a product is not pipelined: each part is asked for when the one before is added.
    co_await tile::load(Box{call_.parts + (std::uint64_t{cta.index} * call_.splits + s) * call_.part_bytes(),
                            1, static_cast<std::uint32_t>(call_.part_bytes()), 0});
    co_await tile::load_wait();
    co_await tile::compute({.fma = 3 * std::uint64_t{call_.latent}, .mufu = 2 * std::uint64_t{kThreads}},
                           Chains::alu(4) + Chains::exponential());
  }
  co_await tile::compute({.fma = 5 * std::uint64_t{call_.latent},
                          .mufu = call_.latent,
                          .convert = std::uint64_t{call_.latent} / 2},
                         Chains::division());
  const std::uint32_t bytes = call_.latent * call_.element_bytes;
  co_await tile::store(Box{call_.out + std::uint64_t{cta.index} * bytes, 1, bytes, 0});
  if (call_.max_expsum != 0)
    co_await tile::store(Box{call_.max_expsum + std::uint64_t{cta.index} * 8, 1, 8, 0});
}

}  // namespace tessera::kernels
