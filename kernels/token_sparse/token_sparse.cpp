#include "kernels/token_sparse/token_sparse.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "kernels/attention_prefill/flash2.hpp"
#include "kernels/stream/stream.hpp"
#include "kernels/token_sparse/row_attention.hpp"

namespace tessera::kernels {

namespace {

using Kernels = std::vector<std::unique_ptr<tile::Kernel>>;

std::uint64_t u(std::int64_t n) { return static_cast<std::uint64_t>(n); }

/// Arrays in the workspace, one after another.
class Workspace {
 public:
  explicit Workspace(std::uint64_t at) : next_{at} {}
  std::uint64_t take(std::int64_t bytes) {
    const std::uint64_t at = next_;
    next_ += (u(bytes) + 4095) / 4096 * 4096;
    return at;
  }

 private:
  std::uint64_t next_;
};

template <class Op>
void require_16_bits(const Op& op) {
  if (op.dtype != models::Dtype::bf16 && op.dtype != models::Dtype::fp16)
    throw std::invalid_argument{fmt::format("{}: dtype {} has no tile program; use bf16 or fp16",
                                            models::kind(op), models::name_of(op.dtype))};
}

void add_stream(Kernels& kernels, StreamWork work, const GpuSpec& gpu) {
  kernels.push_back(std::make_unique<StreamKernel>(std::move(work), gpu));
}

}  // namespace

Kernels make_native_sparse(const models::NativeSparse& op, const GpuSpec& gpu, const Addresses& at) {
  require_16_bits(op);
  if (op.head_dim > 256 || op.head_dim % 8 != 0)
    throw std::invalid_argument{
        fmt::format("nsa_prefill: head_dim {} is not a multiple of 8 up to 256", op.head_dim)};
  Kernels kernels;
  Workspace workspace{at.workspace};
  const std::int64_t e = models::bytes_of(op.dtype), rows = op.batch * op.seq,
                     kv_width = op.kv_heads * op.head_dim, width = op.heads * op.head_dim,
                     group = op.heads / op.kv_heads, short_keys = op.compressed_keys();
  const std::uint64_t out_bytes = u(rows * width * e);

  // Means of overlapping runs of keys and values.
  const std::uint64_t short_k = workspace.take(op.batch * short_keys * kv_width * e),
                      short_v = workspace.take(op.batch * short_keys * kv_width * e);
  for (std::int64_t b = 0; b < op.batch && short_keys > 0; ++b) {
    for (const bool values : {false, true}) {
      StreamWork w{.name = values ? "compress v" : "compress k", .rows = short_keys, .sampled = true};
      const std::uint64_t run = u(op.compressed * kv_width * e), row = u(kv_width * e);
      w.in = {{at.operands[values ? 2 : 1] + u(b * op.seq) * row, run, u(op.stride) * row}};
      w.out = {{(values ? short_v : short_k) + u(b * short_keys) * row, row, row}};
      w.per_row = {.fma = u(op.compressed * kv_width),
                   .integer = u(op.compressed * kv_width) / 2,
                   .convert = u(kv_width) / 2};
      w.between_written = u(short_keys) * row;
      add_stream(kernels, std::move(w), gpu);
    }
  }

  std::vector<std::int64_t> seen, taken;
  for (std::int64_t row = 0; row < op.seq; ++row) {
    seen.push_back(op.compressed_seen(row));
    taken.push_back(op.selected_seen(row));
  }
  RowAttention branch{.name = "nsa compressed",
                      .keys = seen,
                      .sequences = op.batch,
                      .kv_rows = std::max<std::int64_t>(1, short_keys),
                      .heads = op.heads,
                      .group = group,
                      .kv_heads = op.kv_heads,
                      .key_dim = op.head_dim,
                      .value_dim = op.head_dim,
                      .element_bytes = static_cast<std::uint32_t>(e),
                      .q = at.operands[0],
                      .k = short_k,
                      .v = short_v,
                      .out = workspace.take(rows * width * e),
                      .operand_bytes = rows * width * e,
                      .between_read = u(2 * op.batch * short_keys * kv_width * e),
                      .between_written = out_bytes};
  const std::uint64_t compressed_out = branch.out;
  kernels.push_back(std::make_unique<RowAttentionKernel>(branch, gpu));
  const std::uint64_t lists = workspace.take(rows * op.kv_heads * op.selected * 4);
  kernels.push_back(std::make_unique<BlockRankingKernel>(BlockRanking{.keys = seen,
                                                                      .sequences = op.batch,
                                                                      .kv_rows = branch.kv_rows,
                                                                      .heads = op.heads,
                                                                      .kv_heads = op.kv_heads,
                                                                      .head_dim = op.head_dim,
                                                                      .selected = op.selected,
                                                                      .element_bytes = branch.element_bytes,
                                                                      .q = at.operands[0],
                                                                      .k = short_k,
                                                                      .lists = lists},
                                                         gpu));
  branch.name = "nsa selected";
  branch.keys = taken;
  branch.kv_rows = op.seq;
  branch.list_block = op.block;
  branch.k = at.operands[1];
  branch.v = at.operands[2];
  branch.lists = lists;
  branch.operand_bytes = rows * (width + 2 * kv_width) * e;
  branch.out = workspace.take(rows * width * e);
  branch.between_read = u(rows * op.kv_heads * op.selected * 4);
  const std::uint64_t selected_out = branch.out;
  kernels.push_back(std::make_unique<RowAttentionKernel>(branch, gpu));

  // The window: FlashAttention-2, a tile of 128 rows sees its own rows and the window before them.
  constexpr std::int64_t kTileRows = 128;
  FlashVarlen window{.name = "flash2 window",
                     .longest_q = std::min(kTileRows, op.seq),
                     .heads = op.heads,
                     .kv_heads = op.kv_heads,
                     .head_dim = op.head_dim,
                     .element_bytes = branch.element_bytes,
                     .q = at.operands[0],
                     .k = at.operands[1],
                     .v = at.operands[2],
                     .out = workspace.take(rows * width * e),
                     .lse = workspace.take(rows * op.heads * 4),
                     .between_written = out_bytes};
  for (std::int64_t b = 0; b < op.batch; ++b) {
    for (std::int64_t first = 0; first < op.seq; first += kTileRows) {
      const std::int64_t end = std::min(op.seq, first + kTileRows),
                         from = std::max<std::int64_t>(0, first + 1 - op.window);
      window.sequences.push_back({u(b * op.seq + first), u(b * op.seq + from),
                                  static_cast<std::uint32_t>(end - first),
                                  static_cast<std::uint32_t>(end - from)});
    }
  }
  kernels.push_back(std::make_unique<Flash2>(window, gpu));

  const std::uint64_t row = u(width * e), gates = u(op.heads * 3 * e);
  StreamWork sum{.name = "gated sum", .rows = rows, .sampled = true, .between_read = 3 * out_bytes};
  sum.in = {{compressed_out, row, row},
            {selected_out, row, row},
            {window.out, row, row},
            {at.operands[3], gates, gates}};
  sum.out = {{at.operands[4], row, row}};
  sum.per_row = {.fma = 3 * u(width), .integer = 3 * u(width) / 2, .convert = u(width) / 2};
  add_stream(kernels, std::move(sum), gpu);
  return kernels;
}

Kernels make_indexed_latent(const models::IndexedLatent& op, const GpuSpec& gpu, const Addresses& at) {
  require_16_bits(op);
  Kernels kernels;
  Workspace workspace{at.workspace};
  const std::int64_t e = models::bytes_of(op.dtype), rows = op.batch * op.q_rows;
  std::vector<std::int64_t> seen, taken;
  for (std::int64_t q = 0; q < op.q_rows; ++q) {
    seen.push_back(op.visible(q));
    taken.push_back(std::min(op.selected, op.visible(q)));
  }
  const std::uint64_t logits = workspace.take(rows * op.context * 4),
                      lists = workspace.take(rows * op.selected * 4);
  kernels.push_back(std::make_unique<IndexLogitsKernel>(
      IndexLogits{.keys = seen,
                  .sequences = op.batch,
                  .context = op.context,
                  .heads = op.index_heads,
                  .dim = op.index_dim,
                  .element_bytes = static_cast<std::uint32_t>(models::bytes_of(op.index_dtype)),
                  .q = at.operands[3],
                  .weights = at.operands[4],
                  .k = at.operands[5],
                  .logits = logits},
      gpu));
  kernels.push_back(std::make_unique<RowTopKKernel>(RowTopK{.keys = seen,
                                                            .sequences = op.batch,
                                                            .context = op.context,
                                                            .selected = op.selected,
                                                            .logits = logits,
                                                            .lists = lists},
                                                    gpu));
  constexpr std::int64_t kHeads = 64;  // of a CTA
  const std::int64_t group = std::min(kHeads, op.heads), ctas = rows * ((op.heads + group - 1) / group),
                     tiles = (taken.back() + 63) / 64;
  RowAttention attention{
      .name = "sparse latent attention",
      .keys = taken,
      .sequences = op.batch,
      .kv_rows = op.context,
      .heads = op.heads,
      .group = group,
      .key_dim = op.latent + op.rope,
      .value_dim = op.latent,
      .value_in_key = true,
      .list_block = 1,
      .splits = std::clamp<std::int64_t>(gpu.sms() / ctas, 1, tiles),
      .element_bytes = static_cast<std::uint32_t>(e),
      .q = at.operands[0],
      .q2 = at.operands[1],
      .k = at.operands[2],
      .lists = lists,
      .out = at.operands[6],
      .operand_bytes =
          (rows * op.heads + std::min(op.batch * op.context, rows * op.selected)) * (op.latent + op.rope) * e,
      .between_read = u(rows * op.selected * 4)};
  const std::int64_t part_bytes = op.latent * 4 + 8;
  if (attention.splits > 1) {
    attention.out = workspace.take(rows * op.heads * attention.splits * part_bytes);
    attention.between_written = u(rows * op.heads * attention.splits * part_bytes);
  }
  kernels.push_back(std::make_unique<RowAttentionKernel>(attention, gpu));
  if (attention.splits > 1) {
    const std::uint64_t in = u(attention.splits * part_bytes), out = u(op.latent * e);
    StreamWork combine{.name = "combine splits",
                       .rows = rows * op.heads,
                       .between_read = attention.between_written,
                       .between = true};
    combine.in = {{attention.out, in, in}};
    combine.out = {{at.operands[6], out, out}};
    combine.per_row = {
        .fma = u(attention.splits * op.latent), .mufu = u(attention.splits + 1), .convert = u(op.latent) / 2};
    add_stream(kernels, std::move(combine), gpu);
  }
  return kernels;
}

}  // namespace tessera::kernels
