#include "kernels/block_sparse/block_sparse.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "kernels/block_sparse/flash_moba.hpp"
#include "kernels/stream/stream.hpp"

namespace tessera::kernels {

namespace {

using Kernels = std::vector<std::unique_ptr<tile::Kernel>>;

std::uint64_t u(std::int64_t n) { return static_cast<std::uint64_t>(n); }

template <class Op>
void require_supported(const Op& op) {
  if (op.dtype != models::Dtype::bf16 && op.dtype != models::Dtype::fp16)
    throw std::invalid_argument{fmt::format("{}: dtype {} has no tile program; use bf16 or fp16",
                                            models::kind(op), models::name_of(op.dtype))};
  if (op.head_dim > 256 || op.head_dim % 8 != 0)
    throw std::invalid_argument{
        fmt::format("{}: head_dim {} is not a multiple of 8 up to 256", models::kind(op), op.head_dim)};
}

/// Blocks that the last row of each tile of query rows sees, its own included.
std::vector<std::uint32_t> visible_blocks(std::int64_t rows, std::int64_t block, std::uint32_t tile_rows,
                                          const models::Positions& positions) {
  std::vector<std::uint32_t> blocks;
  for (std::int64_t first = 0; first < rows; first += tile_rows) {
    const std::int64_t last = std::min<std::int64_t>(first + tile_rows, rows) - 1;
    const std::int64_t position = positions ? (*positions)[u(last)] : last;
    blocks.push_back(static_cast<std::uint32_t>(position / block + 1));
  }
  return blocks;
}

/// Query rows that a CTA of the forward kernel owns, by how dense the attention is.
std::int64_t range_rows(double topk, double block, double rows) {
  const double density =
      std::min(1.0, (2 * topk * block * rows - topk * block * topk * block) / (rows * rows));
  const double sparsity = 1 - density;
  return sparsity <= 0.5 ? 128 : sparsity <= 0.7 ? 256 : sparsity <= 0.8 ? 512 : sparsity <= 0.9 ? 768 : 1024;
}

/// Tiles of 64 rows if `mean` are expected: a range meets a block's list by chance, as often as a Poisson
/// variable says; of many rows the last tile is half full.
double expected_tiles(double mean) {
  const double some = 1 - std::exp(-mean);
  return mean <= 0 ? 0 : some * std::max(1.0, mean / some / 64 + 0.5 * std::min(1.0, mean / 64));
}

/// What the ranges of one head look up and gather. A block's routed rows lie evenly over the rows of later
/// blocks; its own rows are all in its list.
std::vector<GatherAttention::Range> ranges_of(const std::vector<models::BlockRows>& blocks,
                                              std::int64_t width) {
  std::int64_t rows = 0, first = 0;
  for (const models::BlockRows& b : blocks) rows += b.own;
  std::vector<GatherAttention::Range> ranges(u((rows + width - 1) / width));
  for (const models::BlockRows& b : blocks) {
    const std::int64_t after = first + b.own;  // the first row of a later block
    const double share = after < rows ? static_cast<double>(b.routed) / static_cast<double>(rows - after) : 0;
    for (std::size_t r = b.keys > 0 ? u(first / width) : ranges.size(); r < ranges.size(); ++r) {
      const std::int64_t begin = static_cast<std::int64_t>(r) * width, end = std::min(rows, begin + width);
      const auto own =
          static_cast<double>(std::max<std::int64_t>(0, std::min(end, after) - std::max(begin, first)));
      const double routed =
          share * static_cast<double>(std::max<std::int64_t>(0, end - std::max(begin, after)));
      ranges[r].visits += 1;
      ranges[r].rows += own + routed;
      ranges[r].tiles += own > 0 ? std::ceil((own + routed) / 64) : expected_tiles(routed);
    }
    first = after;
  }
  return ranges;
}

/// The three kernels that list queries by block, and the one that attends.
template <class Op>
void add_attention(Kernels& kernels, const Op& op, const GpuSpec& gpu, GatherAttention call,
                   std::uint64_t indices, std::uint64_t workspace) {
  const std::int64_t all_heads = op.batch * op.heads;
  // Every head alike but for chance: their mean stands for each, except for recorded and hot blocks, where
  // the ranges of all heads are kept apart.
  std::uint64_t pairs = 0, blocks = 0;
  std::int64_t keys = 0, held = 0;
  const bool alike = op.selection.kind == models::SelectionKind::uniform ||
                     op.selection.kind == models::SelectionKind::recent;
  std::vector<GatherAttention::Range> ranges;
  for (std::int64_t h = 0; h < (alike ? 1 : all_heads); ++h) {
    const auto by_block = models::block_rows(op, h / op.heads, h % op.heads);
    blocks = by_block.size();
    for (const models::BlockRows& b : by_block) {
      if (b.keys == 0) continue;
      pairs += u(b.routed + b.own) * (alike ? u(all_heads) : 1);
      keys += b.keys;
      ++held;
    }
    const auto more = ranges_of(by_block, call.range_rows);
    call.ranges_per_head = more.size();
    ranges.insert(ranges.end(), more.begin(), more.end());
  }
  call.ranges = std::move(ranges);
  call.block_keys = held == 0 ? 1 : (keys + held - 1) / held;
  call.sequences = op.batch;
  call.heads = op.heads;
  call.kv_heads = op.kv_heads;
  call.head_dim = op.head_dim;
  call.element_bytes = static_cast<std::uint32_t>(models::bytes_of(op.dtype));
  call.pairs = pairs;
  call.list_length = std::max<std::uint64_t>(1, pairs / std::max<std::uint64_t>(1, blocks * u(all_heads)));
  call.lists = workspace;
  call.unfinished = workspace + (pairs * 8 + blocks * u(all_heads) * 16 + 4095) / 4096 * 4096;
  // Outputs grow from zeros.
  const std::int64_t unfinished_bytes = op.head_dim * 4;
  StreamWork zeros{.name = "zeros", .rows = op.batch * call.q_rows * op.heads, .sampled = true};
  zeros.out = {{call.unfinished, u(unfinished_bytes), u(unfinished_bytes)}};
  zeros.between_written = u(zeros.rows * unfinished_bytes);
  kernels.push_back(std::make_unique<StreamKernel>(std::move(zeros), gpu));
  for (auto& kernel : list_kernels(pairs, blocks, u(all_heads), indices, call.lists, gpu))
    kernels.push_back(std::move(kernel));
  kernels.push_back(std::make_unique<GatherAttentionKernel>(call, gpu));
}

}  // namespace

Kernels make_block_pool(const models::BlockPool& op, const GpuSpec& gpu, const Addresses& addresses) {
  require_supported(op);
  Kernels kernels;
  kernels.push_back(std::make_unique<BlockMeansKernel>(
      BlockMeans{.rows = models::rows_per_block(op.kv_rows, op.block, op.kv_positions),
                 .sequences = op.batch,
                 .kv_heads = op.kv_heads,
                 .head_dim = op.head_dim,
                 .element_bytes = static_cast<std::uint32_t>(models::bytes_of(op.dtype)),
                 .out_bytes = static_cast<std::uint32_t>(4 * (op.head_dim + 1)),
                 .k = addresses.operands.at(0),
                 .out = addresses.operands.at(1)},
      gpu));
  return kernels;
}

Kernels make_block_gate(const models::BlockGate& op, const GpuSpec& gpu, const Addresses& addresses) {
  require_supported(op);
  TiledTopK topk{.sequences = op.batch,
                 .q_rows = op.q_rows,
                 .heads = op.heads,
                 .kv_heads = op.kv_heads,
                 .head_dim = op.head_dim,
                 .topk = op.topk,
                 .element_bytes = static_cast<std::uint32_t>(models::bytes_of(op.dtype)),
                 .q = addresses.operands.at(0),
                 .means = addresses.operands.at(1),
                 .indices = addresses.operands.at(2),
                 .padded = false};
  topk.blocks = visible_blocks(op.q_rows, op.block, topk.tile_rows(), op.q_positions);
  topk.all_blocks = topk.blocks.back();
  Kernels kernels;
  kernels.push_back(std::make_unique<TiledTopKKernel>(topk, gpu));
  return kernels;
}

Kernels make_block_sparse_attention(const models::BlockSparseAttention& op, const GpuSpec& gpu,
                                    const Addresses& addresses) {
  require_supported(op);
  Kernels kernels;
  GatherAttention call{.q_rows = op.q_rows,
                       .kv_rows = op.kv_rows,
                       .q = addresses.operands.at(0),
                       .k = addresses.operands.at(1),
                       .v = addresses.operands.at(2),
                       .out = addresses.operands.at(4),
                       .stats = addresses.operands.at(5)};
  // FlashMoBA's rule takes a budget of more keys than there are for a very sparse one; a node that has a part
  // of the keys meets that often, and all its keys are chosen then.
  call.range_rows = range_rows(static_cast<double>(op.topk), static_cast<double>(op.block),
                               static_cast<double>(std::max({op.q_rows, op.kv_rows, op.topk * op.block})));
  add_attention(kernels, op, gpu, call, addresses.operands.at(3), addresses.workspace);
  return kernels;
}

Kernels make_moba(const models::Moba& op, const GpuSpec& gpu, const Addresses& addresses) {
  require_supported(op);
  if (op.variant == models::MobaVariant::five_step) return make_five_step(op, gpu, addresses);
  Kernels kernels;
  const auto e = static_cast<std::uint32_t>(models::bytes_of(op.dtype));
  const models::RowsPerBlock rows = models::rows_per_block(op.seq, op.block);
  const std::uint64_t blocks = rows.size();
  BlockMeans means{.rows = rows,
                   .sequences = op.batch,
                   .kv_heads = op.kv_heads,
                   .head_dim = op.head_dim,
                   .element_bytes = e,
                   .out_bytes = static_cast<std::uint32_t>(op.head_dim) * e,
                   .k = addresses.operands.at(1),
                   .out = addresses.workspace};
  kernels.push_back(std::make_unique<BlockMeansKernel>(means, gpu));
  std::uint64_t next =
      addresses.workspace + (u(op.batch * op.kv_heads) * blocks * means.out_bytes + 4095) / 4096 * 4096;
  TiledTopK topk{.sequences = op.batch,
                 .q_rows = op.seq,
                 .heads = op.heads,
                 .kv_heads = op.kv_heads,
                 .head_dim = op.head_dim,
                 .topk = op.topk,
                 .all_blocks = static_cast<std::int64_t>(blocks),
                 .element_bytes = e,
                 .q = addresses.operands.at(0),
                 .means = means.out,
                 .indices = next};
  const std::uint64_t list_bytes = u(op.batch * op.seq * op.heads) * topk.list() * 4;
  topk.values = next + list_bytes;
  topk.counts = next + 2 * list_bytes;
  next = topk.counts + (u(op.batch * op.heads) * blocks * 4 + 4095) / 4096 * 4096;
  topk.blocks = visible_blocks(op.seq, op.block, topk.tile_rows(), nullptr);
  kernels.push_back(std::make_unique<TiledTopKKernel>(topk, gpu));
  GatherAttention call{.q_rows = op.seq,
                       .kv_rows = op.seq,
                       .q = addresses.operands.at(0),
                       .k = addresses.operands.at(1),
                       .v = addresses.operands.at(2),
                       .out = addresses.operands.at(3)};
  call.range_rows =
      range_rows(static_cast<double>(op.topk), static_cast<double>(op.block), static_cast<double>(op.seq));
  add_attention(kernels, op, gpu, call, topk.indices, next);
  return kernels;
}

}  // namespace tessera::kernels
