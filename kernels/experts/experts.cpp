#include "kernels/experts/experts.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "kernels/experts/grouped_gemm.hpp"
#include "kernels/experts/sorting.hpp"
#include "kernels/stream/stream.hpp"

namespace tessera::kernels {

namespace {

std::uint64_t u(std::int64_t n) { return static_cast<std::uint64_t>(n); }
constexpr std::uint64_t kAlignment = 1U << 20U;
std::uint64_t aligned(std::uint64_t address) { return (address + kAlignment - 1) / kAlignment * kAlignment; }

// PyTorch's general reduction (ATen/native/cuda/Reduce.cuh), in integer operations of a thread, which makes
// four neighbouring results: its configuration and bounds, 60; two offsets of two dimensions each, by
// multiplications for divisions, 26; the output's, with its bounds, 24. Of each part: its offset, its address
// and unpacking.
constexpr std::uint64_t kReduceResults = 4, kReduceOps = 60 + 26 + 24, kReducePartOps = 8 + 4;
// vLLM's own kernel for two to four parts reads them in turn: an offset and an address for each result.
constexpr std::uint64_t kOwnSumOps = 10;

/// moe_sum: of each token, the rows of its experts.
StreamWork sum_work(const models::Moe& m, std::uint64_t from, std::uint64_t to) {
  const std::uint64_t row = u(m.hidden) * u(models::bytes_of(m.dtype)), parts = u(m.topk);
  StreamWork w{.name = "moe sum", .rows = m.tokens};
  for (std::uint64_t p = 0; p < parts; ++p) w.in.push_back({from + p * row, row, parts * row});
  w.out = {{to, row, row}};
  w.per_row = {.fma = parts * u(m.hidden),
               .integer = parts >= 2 && parts <= 4
                              ? (parts / 2 + kOwnSumOps) * u(m.hidden)
                              : (kReduceOps + parts * kReducePartOps) * u(m.hidden) / kReduceResults,
               .convert = u(m.hidden) / 2};
  return w;
}

StreamWork zero_work(std::int64_t rows, std::uint64_t row_bytes, std::uint64_t to) {
  return {.name = "zero", .rows = rows, .out = {{to, row_bytes, row_bytes}}};
}

}  // namespace

std::vector<std::unique_ptr<tile::Kernel>> make_moe(const models::Moe& m, const GpuSpec& gpu,
                                                    const Addresses& addresses) {
  if (models::bytes_of(m.dtype) != 2)
    throw std::invalid_argument{"moe: the Triton kernel is modelled for bf16 and fp16 only"};
  const TritonTiling tiling = triton_tiling(m.tokens, m.experts, m.intermediate, gpu.architecture);
  const Blocks blocks = row_blocks(m, tiling.block_m);
  const std::uint64_t hidden = addresses.operands.at(0), choices = addresses.operands.at(1),
                      weights = addresses.operands.at(2), out = addresses.operands.at(3);
  const std::int64_t rows = m.tokens * m.topk;
  const std::uint64_t e = 2;
  const std::int64_t up_columns = (m.matrices() - 1) * m.intermediate;
  std::int64_t most_blocks = 0;
  for (const RowBlocks::Block& b : blocks->blocks)
    most_blocks =
        std::max<std::int64_t>(most_blocks, static_cast<std::int64_t>(b.in_expert / tiling.block_m) + 1);
  // The first and the third array between the kernels share a buffer.
  const Sorting sorting{.choices = rows,
                        .experts = m.all_experts,
                        .padded = std::int64_t{blocks->launched} * tiling.block_m,
                        .most_blocks = most_blocks,
                        .mapped = m.experts < m.all_experts,
                        .from = choices,
                        .to = addresses.workspace};
  const std::uint64_t gate_up = aligned(sorting.to + u(sorting.padded) * 8),
                      act = aligned(gate_up + u(rows * std::max(up_columns, m.hidden)) * e);

  std::vector<std::unique_ptr<tile::Kernel>> kernels;
  const auto add_stream = [&](StreamWork work, std::uint64_t read, std::uint64_t written) {
    work.between_read = read;
    work.between_written = written;
    work.between = true;
    kernels.push_back(std::make_unique<StreamKernel>(std::move(work), gpu));
  };
  if (unsorted(m)) {
    kernels.push_back(std::make_unique<StoreCount>(sorting.to));
  } else {
    kernels.push_back(std::make_unique<AlignBlocks>(sorting, gpu));
    if (!AlignBlocks::small(sorting)) kernels.push_back(std::make_unique<SortTokens>(sorting));
  }
  GroupedProduct product{.n = up_columns,
                         .k = m.hidden,
                         .element_bytes = static_cast<std::uint32_t>(e),
                         .gathered = true,
                         .tokens = m.tokens,
                         .a = hidden,
                         .weights = weights,
                         .c = gate_up,
                         .choices = unsorted(m) ? choices : sorting.to};
  kernels.push_back(std::make_unique<GroupedGemm>(product, tiling, blocks, gpu));
  Addresses between;
  between.operands = {gate_up, act};
  const std::uint64_t act_bytes = u(rows * m.intermediate) * e, out_bytes = u(rows * m.hidden) * e;
  if (m.gated) {
    add_stream(activation_work({.rows = rows, .width = m.intermediate, .dtype = m.dtype}, between),
               2 * act_bytes, act_bytes);
  } else {
    // relu in place, then the square: PyTorch's own kernels.
    const std::uint64_t row = u(m.intermediate) * e, pairs = u(m.intermediate) / 2;
    for (const std::uint64_t to : {gate_up, act}) {
      add_stream({.name = to == act ? "square" : "relu",
                  .rows = rows,
                  .in = {{gate_up, row, row}},
                  .out = {{to, row, row}},
                  .per_row = {.fma = 2 * pairs, .integer = pairs, .mufu = 0, .convert = pairs, .shuffle = 0}},
                 act_bytes, act_bytes);
    }
  }
  if (m.experts < m.all_experts) add_stream(zero_work(rows, u(m.hidden) * e, gate_up), 0, out_bytes);
  product.weights += u(m.active_experts() * up_columns * m.hidden) * e;
  product.n = m.hidden;
  product.k = m.intermediate;
  product.gathered = false;
  product.weighted = true;
  product.a = act;
  product.c = gate_up;
  kernels.push_back(std::make_unique<GroupedGemm>(product, tiling, blocks, gpu));
  add_stream(sum_work(m, gate_up, out), out_bytes, 0);
  return kernels;
}

std::vector<std::unique_ptr<tile::Kernel>> make_router(const models::Router& r, const GpuSpec& gpu,
                                                       const Addresses& addresses) {
  // One row a warp or a few: scores, then topk times the greatest of what is left.
  const std::uint64_t experts = u(r.experts), topk = u(r.topk), row = experts * 4, out = topk * 8;
  constexpr std::uint64_t kWarpSteps = 5 * 32;  // a maximum over a warp, in lanes
  StreamWork w{.name = "moe router", .rows = r.tokens, .whole_rows = true};
  w.in = {{addresses.operands.at(0), row, row}};
  w.out = {{addresses.operands.at(1), out, out}};
  w.per_row = {.fma = 3 * experts + 2 * topk,
               .integer = topk * experts + (r.groups > 1 ? 2 * experts : 0),
               .mufu = (r.score == models::RouterScore::sigmoid ? 2 : 1) * experts + 1,
               .convert = 0,
               .shuffle = (topk + 2 + (r.groups > 1 ? 2U : 0U)) * kWarpSteps};
  std::vector<std::unique_ptr<tile::Kernel>> kernels;
  kernels.push_back(std::make_unique<StreamKernel>(std::move(w), gpu));
  return kernels;
}

}  // namespace tessera::kernels
