#include "kernels/attention_decode/attention_decode.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "kernels/attention_decode/splits.hpp"
#include "kernels/stream/stream.hpp"

namespace tessera::kernels {

using tile::Box;
using tile::Program;

namespace {

constexpr std::uint32_t kRows = 64;  // of one wgmma: the packed query heads, padded

}  // namespace

std::uint32_t choose_splits(std::int64_t groups, std::int64_t sms, std::int64_t kv_tiles) {
  if (static_cast<double>(groups) >= 0.8 * static_cast<double>(sms)) return 1;
  return fewest_good_splits(groups, sms, std::min<std::int64_t>({128, sms, kv_tiles}));
}

SplitKvDecode::SplitKvDecode(const models::AttentionDecode& attention, std::uint32_t splits,
                             const GpuSpec& gpu, const Addresses& addresses)
    : attention_{attention},
      hopper_{gpu.sm.has_tma},
      q_{addresses.operands.at(0)},
      k_{addresses.operands.at(1)},
      v_{addresses.operands.at(2)},
      splits_{splits},
      element_bytes_{static_cast<std::uint32_t>(models::bytes_of(attention.dtype))},
      group_rows_{static_cast<std::uint32_t>(attention.heads / attention.kv_heads)},
      kv_tiles_{static_cast<std::uint32_t>((attention.context + kTile - 1) / kTile)} {
  const auto rows = static_cast<std::uint64_t>(attention.batch * attention.heads);
  // Split results are fp32 with their (max, expsum), in the workspace.
  out_bytes_ = splits > 1 ? 4 : element_bytes_;
  out_ = splits > 1 ? addresses.workspace : addresses.operands.at(3);
  stats_ = splits > 1
               ? addresses.workspace + rows * splits * static_cast<std::uint64_t>(attention.head_dim) * 4
           : attention.partial ? addresses.operands.at(4)
                               : 0;
  const auto d = static_cast<std::uint32_t>(attention.head_dim);
  shape_.name = fmt::format("flash decode d{} splits {}", d, splits);
  shape_.grid = static_cast<std::uint32_t>(attention.batch * attention.kv_heads) * splits;
  for (std::uint32_t s = 0; s < splits; ++s) shape_.trips += range(s).alike(range(s).first + kStages);
  shape_.trips *= static_cast<std::uint64_t>(attention.batch * attention.kv_heads);
  shape_.even_trips = shape_.trips;
  if (hopper_) {
    shape_.roles = {{"producer", 4}, {"consumer", 4}};
    shape_.barriers = {{"q_full", 1},     {"k_full[0]", 1},  {"k_full[1]", 1},
                       {"k_empty[0]", 1}, {"k_empty[1]", 1}, {"v_full[0]", 1},
                       {"v_full[1]", 1},  {"v_empty[0]", 1}, {"v_empty[1]", 1}};
    shape_.prologue_cycles = 500;
  } else {
    shape_.roles = {{"warps", 4}};
    shape_.prologue_cycles = 200;
  }
  shape_.registers_per_cta = std::min<std::int64_t>(gpu.sm.registers / 2, (hopper_ ? 256 : 128) * 200);
  shape_.shared_bytes = std::int64_t{kRows} * d * element_bytes_ +
                        std::int64_t{2} * (hopper_ ? kStages : 1) * kTile * d * element_bytes_;
}

SplitKvDecode::Range SplitKvDecode::range(std::uint32_t split) const {
  return {static_cast<std::uint32_t>(std::uint64_t{kv_tiles_} * split / splits_),
          static_cast<std::uint32_t>(std::uint64_t{kv_tiles_} * (split + 1) / splits_)};
}

Box SplitKvDecode::kv_box(std::uint64_t base, std::uint64_t group, std::uint32_t tile) const {
  const std::uint64_t row_bytes = static_cast<std::uint64_t>(attention_.head_dim) * element_bytes_;
  const auto kv_heads = static_cast<std::uint64_t>(attention_.kv_heads),
             context = static_cast<std::uint64_t>(attention_.context);
  const std::uint64_t row = group / kv_heads * context + std::uint64_t{tile} * kTile;
  const std::uint64_t rows = std::min<std::uint64_t>(kTile, context - std::uint64_t{tile} * kTile);
  return {base + row * kv_heads * row_bytes + group % kv_heads * row_bytes, static_cast<std::uint32_t>(rows),
          static_cast<std::uint32_t>(row_bytes), kv_heads * row_bytes};
}

tile::Outline SplitKvDecode::outline() const {
  const std::uint32_t least = kv_tiles_ / splits_, more = kv_tiles_ % splits_;
  const std::uint64_t groups = shape_.grid / splits_;
  tile::Outline o;
  if (more > 0) o.pieces.push_back({groups * more, least + 1});
  o.pieces.push_back({groups * (splits_ - more), least});
  o.key = fmt::format("flash decode {} {} {} {} {}", hopper_, attention_.head_dim, group_rows_, out_bytes_,
                      stats_ != 0);
  const auto row_bytes = static_cast<std::uint64_t>(attention_.head_dim) * element_bytes_;
  o.load_bytes = groups * row_bytes *
                 (std::uint64_t{splits_} * group_rows_ + 2 * static_cast<std::uint64_t>(attention_.context));
  o.store_bytes = std::uint64_t{shape_.grid} * group_rows_ *
                  (static_cast<std::uint64_t>(attention_.head_dim) * out_bytes_ + (stats_ != 0 ? 8 : 0));
  return o;
}

std::unique_ptr<tile::Kernel> SplitKvDecode::excerpt(std::uint32_t ctas, std::uint32_t,
                                                     std::uint32_t trips) const {
  auto e = std::make_unique<SplitKvDecode>(*this);
  e->splits_ = 1;
  e->kv_tiles_ = trips;
  e->attention_.context = std::int64_t{trips} * kTile;
  e->attention_.kv_heads = 1;
  e->attention_.heads = group_rows_;
  e->shape_.grid = ctas;
  return e;
}

Program SplitKvDecode::program(tile::Cta cta, std::uint32_t role) const {
  if (!hopper_) return ampere(cta);
  return role == 0 ? producer(cta) : consumer(cta);
}

Program SplitKvDecode::producer(tile::Cta cta) const {
  const std::uint64_t group = cta.index / splits_;
  const Range r = range(cta.index % splits_);
  if (co_await tile::item(r.alike(r.first + kStages)) != 0) co_return;
  const std::uint32_t q_bytes =
      group_rows_ * static_cast<std::uint32_t>(attention_.head_dim) * element_bytes_;
  co_await tile::expect(0, q_bytes);
  co_await tile::tma_load(Box{q_ + group * q_bytes, 1, q_bytes, 0}, 0);
  for (std::uint32_t t = r.first, i = 0; t < r.last; ++t, ++i) {
    if (const std::uint32_t n = r.alike(t); n > 0) t += static_cast<std::uint32_t>(co_await tile::trip(n));
    const auto stage = static_cast<std::uint8_t>(i % kStages);
    const unsigned phase = i / kStages & 1U;
    const Box k = kv_box(k_, group, t), v = kv_box(v_, group, t);
    co_await tile::wait(static_cast<std::uint8_t>(3 + stage), phase ^ 1U);
    co_await tile::expect(static_cast<std::uint8_t>(1 + stage), k.bytes());
    co_await tile::tma_load(k, static_cast<std::uint8_t>(1 + stage));
    co_await tile::wait(static_cast<std::uint8_t>(7 + stage), phase ^ 1U);
    co_await tile::expect(static_cast<std::uint8_t>(5 + stage), v.bytes());
    co_await tile::tma_load(v, static_cast<std::uint8_t>(5 + stage));
  }
}

Program SplitKvDecode::consumer(tile::Cta cta) const {
  const std::uint64_t group = cta.index / splits_;
  const std::uint32_t split = cta.index % splits_;
  const Range r = range(split);
  const auto d = static_cast<std::uint32_t>(attention_.head_dim);
  const std::uint64_t scores = std::uint64_t{kRows} * kTile, outputs = std::uint64_t{kRows} * d;
  if (co_await tile::item(r.alike(r.first + kStages)) != 0) co_return;
  co_await tile::wait(0, 0);
  for (std::uint32_t t = r.first, i = 0; t < r.last; ++t, ++i) {
    if (const std::uint32_t n = r.alike(t); n > 0) t += static_cast<std::uint32_t>(co_await tile::trip(n));
    const auto stage = static_cast<std::uint8_t>(i % kStages);
    const unsigned phase = i / kStages & 1U;
    co_await tile::wait(static_cast<std::uint8_t>(1 + stage), phase);
    co_await tile::wgmma(kRows, kTile, d);
    co_await tile::wgmma_wait(0);
    co_await tile::arrive(static_cast<std::uint8_t>(3 + stage));
    co_await tile::compute({.integer = scores, .shuffle = std::uint64_t{4} * kRows * 2});
    co_await tile::compute({.fma = 2 * scores, .mufu = scores});
    co_await tile::compute({.fma = outputs, .convert = scores / 2});
    co_await tile::wait(static_cast<std::uint8_t>(5 + stage), phase);
    co_await tile::wgmma(kRows, d, kTile, true);
    co_await tile::wgmma_wait(0);
    co_await tile::arrive(static_cast<std::uint8_t>(7 + stage));
  }
  co_await tile::compute({.fma = outputs, .mufu = kRows, .convert = out_bytes_ < 4 ? outputs / 2 : 0});
  co_await store_out(group, split);
  if (stats_ != 0) {
    co_await tile::store(Box{stats_ + (group * splits_ + split) * group_rows_ * 8, 1, group_rows_ * 8, 0});
  }
}

Program SplitKvDecode::ampere(tile::Cta cta) const {
  const std::uint64_t group = cta.index / splits_;
  const std::uint32_t split = cta.index % splits_;
  const Range r = range(split);
  const auto d = static_cast<std::uint32_t>(attention_.head_dim);
  const std::uint64_t scores = std::uint64_t{kRows} * kTile, outputs = std::uint64_t{kRows} * d;
  const std::uint64_t operand_bytes = std::uint64_t{4} * kTile * d * element_bytes_;
  const std::uint32_t q_bytes = group_rows_ * d * element_bytes_;
  if (co_await tile::item(r.alike(r.first + kStages)) != 0) co_return;
  co_await tile::load(Box{q_ + group * q_bytes, 1, q_bytes, 0});
  if (r.first < r.last) co_await tile::load(kv_box(k_, group, r.first));
  for (std::uint32_t t = r.first; t < r.last; ++t) {
    // K of the next tile is on its way: it stands for that of the tile gone on with.
    if (const std::uint32_t n = r.alike(t); n > 0) t += static_cast<std::uint32_t>(co_await tile::trip(n));
    co_await tile::load_wait(0);
    co_await tile::load(kv_box(v_, group, t));
    co_await tile::shared_load(operand_bytes);
    co_await tile::mma(kRows, kTile, d);
    co_await tile::compute(
        {.fma = 2 * scores + outputs, .integer = scores, .mufu = scores, .convert = scores / 2});
    co_await tile::load_wait(0);
    if (t + 1 < r.last) co_await tile::load(kv_box(k_, group, t + 1));
    co_await tile::shared_load(operand_bytes);
    co_await tile::mma(kRows, d, kTile);
  }
  co_await tile::compute({.fma = outputs, .mufu = kRows, .convert = out_bytes_ < 4 ? outputs / 2 : 0});
  co_await store_out(group, split);
  if (stats_ != 0) {
    co_await tile::store(Box{stats_ + (group * splits_ + split) * group_rows_ * 8, 1, group_rows_ * 8, 0});
  }
}

tile::Op SplitKvDecode::store_out(std::uint64_t group, std::uint32_t split) const {
  const std::uint64_t bytes =
      std::uint64_t{group_rows_} * static_cast<std::uint64_t>(attention_.head_dim) * out_bytes_;
  return tile::store(Box{out_ + (group * splits_ + split) * bytes, 1, static_cast<std::uint32_t>(bytes), 0});
}

std::vector<std::unique_ptr<tile::Kernel>> make_attention_decode(const models::AttentionDecode& attention,
                                                                 const GpuSpec& gpu,
                                                                 const Addresses& addresses) {
  if (attention.dtype != models::Dtype::bf16 && attention.dtype != models::Dtype::fp16) {
    throw std::invalid_argument{
        fmt::format("attention_decode: dtype {} has no tile program; use bf16 or fp16",
                    models::name_of(attention.dtype))};
  }
  if (attention.head_dim > 256 || attention.heads / attention.kv_heads > kRows) {
    throw std::invalid_argument{
        "attention_decode: head_dim up to 256 and at most 64 query heads per kv head are supported"};
  }
  const std::uint32_t splits =
      choose_splits(attention.batch * attention.kv_heads, gpu.sms(),
                    (attention.context + SplitKvDecode::kTile - 1) / SplitKvDecode::kTile);
  std::vector<std::unique_ptr<tile::Kernel>> kernels;
  kernels.push_back(std::make_unique<SplitKvDecode>(attention, splits, gpu, addresses));
  if (splits == 1) return kernels;

  // The combine: per row and head, add `splits` fp32 results by their weights.
  const auto rows = static_cast<std::uint64_t>(attention.batch * attention.heads), s = std::uint64_t{splits};
  const auto d = static_cast<std::uint64_t>(attention.head_dim);
  const std::uint64_t stats = addresses.workspace + rows * s * d * 4;
  StreamWork work{
      .name = "flash decode combine", .rows = static_cast<std::int64_t>(rows), .whole_rows = true};
  work.in = {{addresses.workspace, s * d * 4, s * d * 4}, {stats, s * 8, s * 8}};
  work.out = {{addresses.operands[3], d * static_cast<std::uint64_t>(models::bytes_of(attention.dtype)),
               d * static_cast<std::uint64_t>(models::bytes_of(attention.dtype))}};
  if (attention.partial) work.out.push_back({addresses.operands[4], 8, 8});
  work.per_row = {.fma = s * (d + 4), .integer = s, .mufu = s + 1, .convert = d / 2};
  kernels.push_back(std::make_unique<StreamKernel>(std::move(work), gpu));
  return kernels;
}

}  // namespace tessera::kernels
