#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <random>

#include "kernels/attention_prefill/flash2.hpp"
#include "kernels/block_sparse/torch_kernels.hpp"
#include "kernels/library/lower.hpp"
#include "tests/kernels/counting.hpp"
#include "tests/kernels/gpus.hpp"

namespace tessera::kernels {
namespace {

using tile::testing::addresses_for;
using tile::testing::ampere;
using tile::testing::hopper;
using tile::testing::kStride;

/// Every output byte is stored exactly once, and nothing beyond the outputs among the operands.
void check_outputs(const models::Operator& op, const GpuSpec& gpu, double tensor_flops) {
  INFO(models::signature_of(op) << (gpu.sm.has_tma ? " on hopper" : " on ampere"));
  const Addresses addresses = addresses_for(op);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> stores;
  double done = 0;
  for (const auto& kernel : lower(op, gpu, addresses)) {
    const tile::testing::Counts c = tile::testing::count(*kernel);
    stores.insert(stores.end(), c.stores.begin(), c.stores.end());
    done += c.tensor_flops;
  }
  CHECK(done >= tensor_flops);
  std::sort(stores.begin(), stores.end());
  const std::vector<models::Operand> operands = models::operands_of(op);
  for (std::size_t i = 0; i < operands.size(); ++i) {
    std::uint64_t next = addresses.operands[i];
    for (const auto& [first, last] : stores) {
      if (first < addresses.operands[i] || first >= addresses.operands[i] + kStride) continue;
      REQUIRE(operands[i].written);
      REQUIRE(first == next);
      next = last;
    }
    if (operands[i].written)
      REQUIRE(next == addresses.operands[i] + static_cast<std::uint64_t>(operands[i].bytes));
  }
}

TEST_CASE("block-sparse attention of random shapes is complete, in both variants and in shards") {
  std::mt19937_64 random{3};
  const auto pick = [&](std::int64_t least, std::int64_t most) {
    return least + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most - least + 1));
  };
  constexpr models::SelectionKind kKinds[] = {models::SelectionKind::uniform, models::SelectionKind::recent,
                                              models::SelectionKind::zipf};
  for (int i = 0; i < 12; ++i) {
    const GpuSpec gpu = i % 3 == 2 ? ampere() : hopper();
    const std::int64_t kv_heads = pick(1, 2), heads = kv_heads * pick(1, 2), seq = pick(1, 600),
                       block = pick(8, 200), topk = pick(1, 5), head_dim = i % 2 == 0 ? 64 : 128;
    models::Moba whole{.batch = pick(1, 2),
                       .seq = seq,
                       .heads = heads,
                       .kv_heads = kv_heads,
                       .head_dim = head_dim,
                       .block = block,
                       .topk = topk,
                       .selection = {.kind = kKinds[i % 3]}};
    const double gate = models::flops_of(models::BlockGate{.batch = whole.batch,
                                                           .q_rows = seq,
                                                           .heads = heads,
                                                           .kv_heads = kv_heads,
                                                           .head_dim = head_dim,
                                                           .block = block,
                                                           .topk = topk});
    const double attention =
        models::flops_of(whole) - gate - static_cast<double>(whole.batch * seq * kv_heads * head_dim);
    check_outputs(whole, gpu, attention + gate);
    whole.variant = models::MobaVariant::five_step;
    check_outputs(whole, gpu, attention);
    std::vector<std::int32_t> rows, columns;
    for (std::int32_t t = 0; t < seq; ++t) {
      if (random() % 2 == 0) rows.push_back(t);
      if (random() % 3 == 0) columns.push_back(t);
    }
    if (rows.empty() || columns.empty()) continue;
    const models::BlockSparseAttention part{
        .batch = whole.batch,
        .q_rows = static_cast<std::int64_t>(rows.size()),
        .kv_rows = static_cast<std::int64_t>(columns.size()),
        .heads = heads,
        .kv_heads = kv_heads,
        .head_dim = head_dim,
        .block = block,
        .topk = topk,
        .q_positions = std::make_shared<const std::vector<std::int32_t>>(rows),
        .kv_positions = std::make_shared<const std::vector<std::int32_t>>(columns),
        .selection = whole.selection};
    check_outputs(part, gpu, 0);
    check_outputs(models::BlockPool{.batch = whole.batch,
                                    .kv_rows = part.kv_rows,
                                    .kv_heads = kv_heads,
                                    .head_dim = head_dim,
                                    .block = block,
                                    .kv_positions = part.kv_positions},
                  gpu, 0);
    check_outputs(models::BlockGate{.batch = whole.batch,
                                    .q_rows = part.q_rows,
                                    .heads = heads,
                                    .kv_heads = kv_heads,
                                    .head_dim = head_dim,
                                    .block = block,
                                    .topk = topk,
                                    .q_positions = part.q_positions},
                  gpu, 0);
  }
}

TEST_CASE("FlashAttention-2 over packed sequences stores every row once; CTAs beyond the end store nothing") {
  std::mt19937_64 random{4};
  for (const bool causal : {false, true}) {
    FlashVarlen call{.name = "varlen",
                     .longest_q = 900,
                     .heads = 2,
                     .kv_heads = 1,
                     .head_dim = 128,
                     .causal = causal,
                     .q = kStride,
                     .k = 2 * kStride,
                     .v = 3 * kStride,
                     .out = 4 * kStride,
                     .lse = 5 * kStride};
    std::uint64_t q = 0, kv = 0;
    for (const std::uint32_t rows : {1U, 128U, 129U, 900U, 300U}) {
      const std::uint32_t keys = causal ? rows : 1 + static_cast<std::uint32_t>(random() % 300);
      call.sequences.push_back({q, kv, rows, keys});
      q += rows;
      kv += keys;
    }
    const Flash2 kernel{call, hopper()};
    CHECK(kernel.shape().grid == 8 * 5 * 2);
    const tile::testing::Counts c = tile::testing::count(kernel);
    CHECK(c.stored == q * 2 * (256 + 4));
    CHECK(c.stored == kernel.outline().store_bytes);
    std::uint64_t pieces = 0;
    for (const tile::Pieces& p : kernel.outline().pieces) pieces += p.count;
    CHECK(pieces == kernel.shape().grid);
  }
}

TEST_CASE("a strided top-k reads its slice once for each pass") {
  CHECK(StridedTopK{.slice = 256}.passes() == 12);
  CHECK(StridedTopK{.slice = 63}.passes() == 11);
  const StridedTopKKernel kernel{{.slices = 40, .slice = 50, .k = 7, .pitch = 4096}, hopper()};
  const tile::testing::Counts c = tile::testing::count(kernel);
  CHECK(c.loaded == 40 * 50 * 32 * StridedTopK{.slice = 50}.passes());
  CHECK(c.stored == 40 * 7 * 12);
}

}  // namespace
}  // namespace tessera::kernels
