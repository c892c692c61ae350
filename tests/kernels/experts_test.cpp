#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <random>
#include <stdexcept>

#include "kernels/experts/grouped_gemm.hpp"
#include "kernels/library/lower.hpp"
#include "tests/kernels/counting.hpp"
#include "tests/kernels/gpus.hpp"

namespace tessera::kernels {
namespace {

using tile::testing::addresses_for;
using tile::testing::hopper;
using tile::testing::kStride;

models::Moe moe_of(std::int64_t tokens, std::int64_t hidden, std::int64_t intermediate, std::int64_t experts,
                   std::int64_t topk, std::int64_t nodes, const char* loads) {
  models::Moe m{.tokens = tokens,
                .hidden = hidden,
                .intermediate = intermediate,
                .experts = experts / nodes,
                .all_experts = experts,
                .topk = topk};
  m.loads = models::loads_of(
      models::expert_loads(models::parse_load(loads),
                           {.tokens = tokens, .experts = experts, .topk = topk, .nodes = nodes}),
      0, m.experts);
  return m;
}

TEST_CASE("a mixture's kernels store the result once and multiply every row, padded to whole blocks") {
  std::mt19937_64 random{3};
  const auto pick = [&](std::int64_t most) {
    return static_cast<std::int64_t>(1 + random() % static_cast<std::uint64_t>(most));
  };
  for (int i = 0; i < 24; ++i) {
    const std::int64_t nodes = std::int64_t{1} << (random() % 3), experts = nodes * pick(9);
    const models::Moe m =
        moe_of(i % 6 == 0 ? 1 : pick(300), 16 * pick(20), i % 5 == 0 ? pick(90) : 16 * pick(12), experts,
               std::min(experts, pick(6)), nodes, i % 2 == 0 ? "balanced" : "power_law_1.2");
    INFO(models::signature_of(m));
    const Addresses at = addresses_for(m);
    double flops = 0;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> out;
    for (const auto& kernel : lower(m, hopper(), at)) {
      const tile::testing::Counts c = tile::testing::count(*kernel);
      flops += c.tensor_flops;
      for (const auto& s : c.stores)
        if (s.first >= at.operands[3] && s.first < at.operands[3] + kStride) out.push_back(s);
    }
    CHECK(flops >= 6.0 * static_cast<double>(m.rows() * m.hidden * m.intermediate));
    std::sort(out.begin(), out.end());
    std::uint64_t next = at.operands[3];
    for (const auto& [first, last] : out) {
      REQUIRE(first == next);
      next = last;
    }
    CHECK(next == at.operands[3] + static_cast<std::uint64_t>(2 * m.tokens * m.hidden));
  }
}

TEST_CASE("each expert's rows are padded to blocks of their own; CTAs beyond the last return at once") {
  models::Moe m = moe_of(100, 64, 32, 4, 2, 1, "balanced");
  m.loads = models::loads_of({100, 0, 33, 67}, 0, 4);
  const Blocks blocks = row_blocks(m, 32);
  REQUIRE(blocks->blocks.size() == 4 + 0 + 2 + 3);
  CHECK(blocks->blocks[3].rows == 4);
  CHECK(blocks->blocks[4].weights == 1);  // the expert without rows has no weights to read
  CHECK(blocks->blocks[5].rows == 1);
  CHECK(blocks->blocks[8].first == 133 + 64);
  CHECK(blocks->launched == (200 + 4 * 31 + 31) / 32);
}

TEST_CASE("few tokens on all experts are not sorted: each row is a block") {
  const models::Moe m = moe_of(2, 64, 32, 64, 8, 1, "balanced");
  CHECK(unsorted(m));
  CHECK(row_blocks(m, 16)->launched == 16);
  CHECK_FALSE(unsorted(moe_of(3, 64, 32, 64, 8, 1, "balanced")));
  CHECK_FALSE(unsorted(moe_of(2, 64, 32, 64, 8, 2, "balanced")));  // expert parallel
}

TEST_CASE("tiles are vLLM's: tuned for the nearest number of tokens, else by its rule") {
  const TritonTiling tuned = triton_tiling(700, 8, 14336, GpuArchitecture::hopper);
  CHECK(tuned.block_m == 128);
  CHECK(tuned.block_n == 256);
  CHECK(tuned.group_m == 16);
  CHECK(triton_tiling(17, 128, 768, GpuArchitecture::hopper).block_k == 256);
  const TritonTiling rule = triton_tiling(32, 256, 2048, GpuArchitecture::hopper);
  CHECK(rule.block_m == 16);
  CHECK(rule.stages == 4);
  CHECK(triton_tiling(513, 256, 2048, GpuArchitecture::hopper).block_m == 128);
  CHECK(triton_tiling(16384, 2, 2048, GpuArchitecture::hopper).group_m == 16);
  // What was tuned on an H200 is not launched on an A100.
  CHECK(triton_tiling(700, 8, 14336, GpuArchitecture::ampere).block_n == 128);
  CHECK(triton_tiling(17, 128, 768, GpuArchitecture::ampere).block_k == 128);
}

TEST_CASE("the outline of a grouped product counts what its programs load and store") {
  const models::Moe m = moe_of(700, 320, 48, 16, 3, 2, "power_law_1.2");
  for (const auto& kernel : lower(m, hopper(), addresses_for(m))) {
    if (dynamic_cast<const GroupedGemm*>(kernel.get()) == nullptr) continue;
    const tile::Outline o = kernel->outline();
    const tile::testing::Counts c = tile::testing::count(*kernel);
    std::uint64_t stored = 0, pieces = 0;
    for (const auto& [first, last] : c.stores) stored += last - first;
    for (const tile::Pieces& p : o.pieces) pieces += p.count;
    CHECK(stored == o.store_bytes);
    CHECK(pieces == kernel->shape().grid);
    CHECK(c.loaded >= o.load_bytes);
    CHECK(static_cast<double>(c.loaded) < 1.05 * static_cast<double>(o.load_bytes));  // indices besides
  }
}

TEST_CASE("fp8 experts are refused by name") {
  models::Moe m = moe_of(4, 64, 32, 8, 2, 1, "balanced");
  m.dtype = models::Dtype::fp8;
  CHECK_THROWS_WITH(lower(m, hopper(), addresses_for(m)),
                    Catch::Matchers::ContainsSubstring("bf16 and fp16"));
}

TEST_CASE("a router's kernel reads all scores and writes every choice") {
  const models::Router r{
      .tokens = 37, .experts = 256, .topk = 8, .score = models::RouterScore::sigmoid, .groups = 8};
  const auto kernels = lower(r, hopper(), addresses_for(r));
  REQUIRE(kernels.size() == 1);
  const tile::testing::Counts c = tile::testing::count(*kernels[0]);
  std::uint64_t stored = 0;
  for (const auto& [first, last] : c.stores) stored += last - first;
  CHECK(c.loaded == 37 * 256 * 4);
  CHECK(stored == 37 * 8 * 8);
}

}  // namespace
}  // namespace tessera::kernels
