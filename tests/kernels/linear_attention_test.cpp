#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <random>

#include "kernels/library/lower.hpp"
#include "models/cost/cost_model.hpp"
#include "tests/kernels/counting.hpp"
#include "tests/kernels/gpus.hpp"

namespace tessera::kernels {
namespace {

using tile::testing::addresses_for;
using tile::testing::ampere;
using tile::testing::hopper;
using tile::testing::kStride;

struct Work {
  double tensor_flops = 0;
  std::uint64_t loaded = 0;
};

/// Runs all kernels of `op`: each result is stored whole, without gap, and no byte beyond its end.
Work check_stores(const models::Operator& op, const GpuSpec& gpu, bool once = true) {
  INFO(models::signature_of(op) << (gpu.sm.has_tma ? " on hopper" : " on ampere"));
  const Addresses addresses = addresses_for(op);
  Work work;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> stores;
  for (const auto& kernel : lower(op, gpu, addresses)) {
    const tile::testing::Counts c = tile::testing::count(*kernel);
    stores.insert(stores.end(), c.stores.begin(), c.stores.end());
    work.tensor_flops += c.tensor_flops;
    work.loaded += c.loaded;
    const tile::Outline o = kernel->outline();
    CHECK(static_cast<double>(c.stored) <= 1.1 * static_cast<double>(o.store_bytes) + 65536);
    // An excerpt ends, whatever its size.
    for (const std::uint32_t trips : {1U, 3U})
      CHECK_NOTHROW(tile::testing::count(*kernel->excerpt(2, 1, trips)));
  }
  std::sort(stores.begin(), stores.end());
  const std::vector<models::Operand> operands = models::operands_of(op);
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (!operands[i].written) continue;
    std::uint64_t next = addresses.operands[i];
    for (const auto& [first, last] : stores) {
      if (first < addresses.operands[i] || first >= addresses.operands[i] + kStride) continue;
      if (once)
        REQUIRE(first == next);
      else
        REQUIRE(first <= next);
      next = std::max(next, last);
    }
    REQUIRE(next == addresses.operands[i] + static_cast<std::uint64_t>(operands[i].bytes));
  }
  return work;
}

TEST_CASE("linear attention of random shapes stores every result once and does every FLOP") {
  std::mt19937_64 random{5};
  const auto pick = [&](std::int64_t least, std::int64_t most) {
    return least + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most - least + 1));
  };
  for (const models::Recurrence& rule : models::kRecurrences) {
    for (int i = 0; i < 4; ++i) {
      const models::LinearAttention op{.rule = rule,
                                       .batch = pick(1, 3),
                                       .seq = i == 0 ? 1 : pick(1, 300),
                                       .heads = i == 3 ? 40 : pick(1, 6),
                                       .k_dim = 64 * pick(1, 2),
                                       .v_dim = 64 * pick(1, 3),
                                       .initial_state = i % 2 == 0};
      for (const GpuSpec& gpu : {hopper(), ampere()})
        CHECK(check_stores(op, gpu).tensor_flops >= 0.5 * models::flops_of(op));
    }
  }
}

TEST_CASE("a segment's map and its rest store every result once, and together do the work of a whole") {
  std::mt19937_64 random{11};
  const auto pick = [&](std::int64_t least, std::int64_t most) {
    return least + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most - least + 1));
  };
  for (const models::Recurrence& rule : {models::kKda, models::kGatedDelta}) {
    for (int i = 0; i < 4; ++i) {
      models::LinearAttention op{.rule = rule,
                                 .batch = pick(1, 2),
                                 .seq = i == 0 ? 1 : pick(1, 300),
                                 .heads = pick(1, 4),
                                 .k_dim = 64 * pick(1, 2),
                                 .v_dim = 64 * pick(1, 3),
                                 .initial_state = i % 2 == 0};
      for (const GpuSpec& gpu : {hopper(), ampere()}) {
        const double whole = check_stores(op, gpu).tensor_flops;
        op.part = models::SegmentPart::map;
        const double map = check_stores(op, gpu).tensor_flops;
        op.part = models::SegmentPart::rest;
        const double rest = check_stores(op, gpu).tensor_flops;
        op.part = models::SegmentPart::none;
        CHECK(map + rest > whole);
        CHECK(rest < whole);
      }
    }
  }
  models::LinearAttention retnet{.rule = models::kRetNet, .seq = 64, .heads = 1};
  retnet.part = models::SegmentPart::map;
  CHECK_THROWS_AS(lower(retnet, hopper(), addresses_for(retnet)), std::invalid_argument);
}

TEST_CASE("a scan reads the maps it multiplies by and stores every state once") {
  for (const std::int64_t maps : {1, 2, 5}) {
    for (const bool initial : {false, true}) {
      const models::StateScan op{
          .batch = 2, .heads = 3, .k_dim = 128, .v_dim = 64, .maps = maps, .initial_state = initial};
      const Work work = check_stores(op, hopper());
      const std::int64_t products = initial ? maps : maps - 1;
      // In tf32, twice the work of bf16.
      CHECK(work.tensor_flops == 2.0 * 2 * 2 * 3 * 128 * 128 * 64 * static_cast<double>(products));
      CHECK(work.loaded >= static_cast<std::uint64_t>(2 * 3 * 4 * (products * 128 * 128 + maps * 128 * 64)));
    }
  }
}

TEST_CASE("a KDA call of few chunks is fused, one of many is not") {
  const auto kernels_of = [](std::int64_t seq) {
    const models::LinearAttention op{.seq = seq, .heads = 12};
    return lower(op, hopper(), addresses_for(op)).size();
  };
  CHECK(kernels_of(21 * 64) == 7);  // 252 chunks and heads
  CHECK(kernels_of(22 * 64) == 9);
}

TEST_CASE("the state pass goes through the chunks one after another, by sequence, head and slice") {
  const models::LinearAttention op{.batch = 2, .seq = 640, .heads = 3};
  const auto kernels = lower(op, hopper(), addresses_for(op));
  const tile::Outline o = kernels[kernels.size() - 2]->outline();
  REQUIRE(o.pieces.size() == 1);
  CHECK(o.pieces[0].count == 2 * 3 * 4);
  CHECK(o.pieces[0].trips == 10);
}

TEST_CASE("decode steps read and write every state once") {
  for (const models::Recurrence& rule : models::kRecurrences) {
    for (const std::int64_t batch : {1, 3, 70}) {
      for (const std::int64_t tokens : {1, 3}) {
        const models::LinearDecode op{
            .rule = rule,
            .batch = batch,
            .heads = 5,
            .tokens = tokens,
            .form = tokens == 1 ? models::DecodeForm::packed : models::DecodeForm::verify};
        const auto states = static_cast<std::uint64_t>(batch * models::state_bytes(op));
        CHECK(check_stores(op, hopper()).loaded >= states);
        CHECK(check_stores(op, ampere()).loaded >= states);
      }
    }
  }
  const models::LinearDecode fused{.batch = 3, .heads = 12, .form = models::DecodeForm::fused};
  CHECK(check_stores(fused, hopper()).loaded >= static_cast<std::uint64_t>(3 * models::state_bytes(fused)));
  CHECK_THROWS_AS(lower(fused, ampere(), addresses_for(fused)), std::invalid_argument);
}

TEST_CASE("short convolutions store every result") {
  for (const std::int64_t seq : {1, 2, 8, 29}) {
    const models::CausalConv1d prefill{.batch = 3, .seq = seq, .channels = 384};
    const auto x = static_cast<std::uint64_t>(3 * seq * 3 * 384 * 2);
    CHECK(check_stores(prefill, hopper()).loaded >= x);
    models::CausalConv1d update = prefill;
    update.update = true;  // tokens of a sequence write its state one after another
    CHECK(check_stores(update, hopper(), seq == 1).loaded >= x);
  }
}

TEST_CASE("three equal convolutions share an operator's traffic: each takes a third of the time") {
  const GpuSpec gpu = hopper();
  cost::CostModel model{gpu};
  models::CausalConv1d three{.batch = 1, .seq = 8192, .channels = 6144}, one = three;
  one.convs = 1;
  const cost::Conditions cold{.graph = true};
  const double all = model.cost(three, cold).execution_us, each = model.cost(one, cold).execution_us;
  CHECK(all > 2.9 * each);
  CHECK(all < 3.1 * each);
}

TEST_CASE("FlashKDA's kernels store every result once and multiply what the operator says, of any lengths") {
  std::mt19937_64 random{17};
  const auto pick = [&](std::int64_t least, std::int64_t most) {
    return least + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most - least + 1));
  };
  for (int i = 0; i < 6; ++i) {
    models::LinearAttention op{.batch = pick(1, 3),
                               .seq = i == 0 ? 1 : pick(1, 200),
                               .heads = pick(1, 5),
                               .chunk = 16,
                               .initial_state = i % 2 == 0,
                               .kernels = models::ChunkKernels::flash_kda};
    if (i >= 3) {
      for (std::int64_t s = 0; s < op.batch; ++s) op.lengths.push_back(pick(1, 150));
      op.seq = *std::max_element(op.lengths.begin(), op.lengths.end());
    }
    const Work work = check_stores(op, hopper());
    // Whole tiles: k S, q S, K^T D, scores of both kinds, the inverse's six products, and two by 16 x 16.
    double tiles = 0;
    for (std::int64_t s = 0; s < op.batch; ++s) tiles += static_cast<double>((op.length_of(s) + 15) / 16);
    CHECK(work.tensor_flops ==
          tiles * static_cast<double>(op.heads) * 2 *
              (3 * 16 * 128 * 128 + 2 * 16 * 16 * 128 + 6 * 16 * 16 * 16 + 2 * 16 * 16 * 128));
    CHECK(work.tensor_flops >= 0.5 * models::flops_of(op));
  }
}

TEST_CASE("FlashKDA: many short sequences share the SMs that one long one leaves idle") {
  cost::CostModel model{hopper()};
  const auto time = [&](std::int64_t batch, std::int64_t seq, std::vector<std::int64_t> lengths = {}) {
    return model
        .cost(models::LinearAttention{.batch = batch,
                                      .seq = seq,
                                      .heads = 64,
                                      .chunk = 16,
                                      .kernels = models::ChunkKernels::flash_kda,
                                      .lengths = std::move(lengths)},
              {})
        .execution_us;
  };
  const double fixed = time(1, 4096), packed = time(4, 1024);
  CHECK(packed < fixed);
  // Which sequence a tile is of is searched for then, not divided out.
  CHECK(time(4, 1024, {1024, 1024, 1024, 1024}) >= packed);
  CHECK(time(4, 1024, {1024, 1024, 1024, 1024}) <= 1.01 * packed);
  CHECK(time(2, 3072, {3072, 1024}) < fixed);
}

TEST_CASE("what FlashKDA does not support is refused") {
  const auto refuses = [](models::LinearAttention op, const GpuSpec& gpu) {
    op.kernels = models::ChunkKernels::flash_kda;
    CHECK_THROWS_AS(lower(op, gpu, addresses_for(op)), std::invalid_argument);
  };
  const models::LinearAttention right{.seq = 64, .heads = 1, .chunk = 16};
  refuses({.seq = 64, .heads = 1}, hopper());
  refuses({.rule = models::kGatedDelta, .seq = 64, .heads = 1, .chunk = 16}, hopper());
  refuses({.seq = 64, .heads = 1, .k_dim = 64, .v_dim = 64, .chunk = 16}, hopper());
  refuses({.seq = 64, .heads = 1, .chunk = 16, .part = models::SegmentPart::map}, hopper());
  refuses({.seq = 64, .heads = 1, .chunk = 16, .dtype = models::Dtype::fp16}, hopper());
  refuses(right, ampere());
  models::LinearAttention unequal{.batch = 2, .seq = 64, .heads = 1, .lengths = {64, 1}};
  CHECK_THROWS_AS(lower(unequal, hopper(), addresses_for(unequal)), std::invalid_argument);
}

TEST_CASE("what linear attention has no kernel for is refused by name") {
  const auto refuses = [](const models::Operator& op) {
    CHECK_THROWS_AS(lower(op, hopper(), addresses_for(op)), std::invalid_argument);
  };
  refuses(models::LinearAttention{.seq = 64, .heads = 1, .chunk = 32});
  refuses(models::LinearAttention{.seq = 64, .heads = 1, .k_dim = 100});
  refuses(models::LinearAttention{.seq = 64, .heads = 1, .dtype = models::Dtype::fp8});
  refuses(models::LinearDecode{.heads = 1, .dtype = models::Dtype::fp32});
}

}  // namespace
}  // namespace tessera::kernels
