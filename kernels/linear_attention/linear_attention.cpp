#include "kernels/linear_attention/linear_attention.hpp"

#include <fmt/format.h>

#include <stdexcept>

#include "kernels/linear_attention/chunk_prepare.hpp"
#include "kernels/linear_attention/chunks.hpp"
#include "kernels/linear_attention/flash_kda.hpp"
#include "kernels/linear_attention/operands.hpp"
#include "kernels/linear_attention/recurrent.hpp"
#include "kernels/linear_attention/segments.hpp"
#include "kernels/linear_attention/short_conv.hpp"
#include "kernels/linear_attention/solve.hpp"
#include "kernels/linear_attention/state_pass.hpp"
#include "kernels/stream/stream.hpp"

namespace tessera::kernels {

namespace {

using Kernels = std::vector<std::unique_ptr<tile::Kernel>>;

// Up to as many CTAs (one per chunk and head) SGLang's chunk_kda_fwd fuses the diagonal and the
// recomputation.
constexpr std::uint64_t kMostFusedCtas = 256;

ChunkedCall place(const models::LinearAttention& op, const Addresses& addresses) {
  ChunkedCall c{.op = op};
  place_operands(c, addresses);
  if (!op.initial_state) c.state = c.state_out;
  Workspace workspace{addresses.workspace};
  const std::uint64_t keys = c.head_tokens() * c.k_dim() * c.element(),
                      values = c.head_tokens() * c.v_dim() * c.element();
  c.sums = workspace.take(c.head_tokens() * c.sums_per_token() * 4);
  c.scores = workspace.take(c.head_tokens() * c.chunk() * c.element());
  c.inverse = workspace.take(c.head_tokens() * c.chunk() * 4);
  c.diagonal = workspace.take(c.head_tokens() * kSubChunk * 4);
  c.w = workspace.take(keys);
  c.kg = workspace.take(keys);
  c.u = workspace.take(values);
  c.d = workspace.take(values);
  c.states = workspace.take(c.head_chunks() * c.k_dim() * c.v_dim() * c.element());
  if (op.part == models::SegmentPart::rest) c.q = c.k = workspace.next();  // as normalised before
  return c;
}

/// l2norm_fwd_kernel: sixteen rows of a head's channels per CTA of eight warps.
StreamWork l2norm_work(const ChunkedCall& c, std::uint64_t from, std::uint64_t to) {
  const std::uint64_t row = c.k_dim() * c.element();
  return {.name = "l2norm",
          .rows = static_cast<std::int64_t>(c.head_tokens()),
          .whole_rows = true,
          .in = {{from, row, row}},
          .out = {{to, row, row}},
          .per_row = {.fma = 2 * c.k_dim(),
                      .integer = c.k_dim() / 2,
                      .mufu = 1,
                      .convert = c.k_dim() / 2,
                      .shuffle = 5 * 16},
          .between_read = c.head_tokens() * row,
          .between_written = c.head_tokens() * row,
          .between = true};
}

StreamWork zeros_work(std::uint64_t at, std::uint64_t bytes) {
  return {.name = "zeros", .rows = 1, .out = {{at, bytes, bytes}}, .between_written = bytes, .between = true};
}

void require_supported(models::Dtype dtype, std::string_view kind) {
  if (dtype != models::Dtype::bf16 && dtype != models::Dtype::fp16)
    throw std::invalid_argument{
        fmt::format("{}: dtype {} has no tile program; use bf16 or fp16", kind, models::name_of(dtype))};
}

}  // namespace

Kernels make_linear_attention(const models::LinearAttention& op, const GpuSpec& gpu,
                              const Addresses& addresses) {
  require_supported(op.dtype, models::kind(op));
  if (op.kernels == models::ChunkKernels::flash_kda) return make_flash_kda(op, gpu, addresses);
  if (!op.lengths.empty())
    throw std::invalid_argument{
        fmt::format("{}: sequences of different lengths have no Triton program here", models::kind(op))};
  if (op.chunk != 64)
    throw std::invalid_argument{
        fmt::format("{}: chunk {} has no tile program; use 64", models::kind(op), op.chunk)};
  for (const auto& [name, dim] : {std::pair{"k_dim", op.k_dim}, {"v_dim", op.v_dim}})
    if (dim % 64 != 0 || dim > 256)
      throw std::invalid_argument{
          fmt::format("{}: {} {} is not a multiple of 64 up to 256", models::kind(op), name, dim)};
  if (op.rule.decay == models::Decay::vector && !op.rule.delta)
    throw std::invalid_argument{
        fmt::format("{}: a decay per channel without the delta rule has no tile program", models::kind(op))};
  if (op.part != models::SegmentPart::none && !op.rule.delta)
    throw std::invalid_argument{
        fmt::format("{}: segments without the delta rule have no tile program", models::kind(op))};
  ChunkedCall c = place(op, addresses);
  Kernels kernels;
  const auto states_and_output = [&] {
    kernels.push_back(std::make_unique<StatePass>(c, gpu));
    kernels.push_back(std::make_unique<ChunkOutput>(c, gpu));
  };
  if (op.part == models::SegmentPart::rest) {
    states_and_output();
    return kernels;
  }
  const auto stream = [&](StreamWork work) {
    kernels.push_back(std::make_unique<StreamKernel>(std::move(work), gpu));
  };
  if (op.rule.normalised) {
    // In place of W and the decayed keys, which come later, but keys are still read then: a buffer of their
    // own.
    const std::uint64_t bytes = c.head_tokens() * c.k_dim() * c.element();
    const std::uint64_t q = c.states +
                            (c.head_chunks() * c.k_dim() * c.v_dim() * c.element() + 511) / 512 * 512,
                        k = q + (bytes + 511) / 512 * 512;
    stream(l2norm_work(c, c.q, q));
    stream(l2norm_work(c, c.k, k));
    c.q = q;
    c.k = k;
  }
  if (c.sums_per_token() > 0) kernels.push_back(std::make_unique<DecaySums>(c, gpu));
  const bool fused = c.vector_decay() && op.rule.delta && c.head_chunks() <= kMostFusedCtas;
  const std::uint64_t score_bytes = c.head_tokens() * c.chunk() * c.element();
  if (fused) {
    stream(zeros_work(c.scores, score_bytes));
    kernels.push_back(std::make_unique<Solve>(c, true, gpu));
  } else if (op.rule.delta) {
    if (c.vector_decay()) {
      kernels.push_back(std::make_unique<DiagonalScores>(c, gpu));
      stream(zeros_work(c.inverse, score_bytes));
    } else {
      kernels.push_back(std::make_unique<ScaledDot>(c, gpu));
    }
    kernels.push_back(std::make_unique<Solve>(c, false, gpu));
    kernels.push_back(std::make_unique<RecomputeWU>(c, gpu));
  }
  if (op.part == models::SegmentPart::map)
    kernels.push_back(std::make_unique<MapPass>(c, addresses.operands.back(), gpu));
  else
    states_and_output();
  return kernels;
}

Kernels make_state_scan(const models::StateScan& op, const GpuSpec& gpu, const Addresses& addresses) {
  Kernels kernels;
  kernels.push_back(std::make_unique<ScanKernel>(op, gpu, addresses));
  return kernels;
}

Kernels make_linear_decode(const models::LinearDecode& op, const GpuSpec& gpu, const Addresses& addresses) {
  require_supported(op.dtype, models::kind(op));
  Kernels kernels;
  if (op.form == models::DecodeForm::fused)
    kernels.push_back(std::make_unique<FusedDecode>(op, gpu, addresses));
  else
    kernels.push_back(std::make_unique<RecurrentStep>(op, gpu, addresses));
  return kernels;
}

Kernels make_causal_conv1d(const models::CausalConv1d& op, const GpuSpec& gpu, const Addresses& addresses) {
  require_supported(op.dtype, models::kind(op));
  Kernels kernels;
  if (op.update)
    kernels.push_back(std::make_unique<ShortConvUpdate>(op, gpu, addresses));
  else
    for (std::uint32_t stream = 0; stream < op.convs; ++stream)
      kernels.push_back(std::make_unique<ShortConv>(op, stream, gpu, addresses));
  return kernels;
}

}  // namespace tessera::kernels
