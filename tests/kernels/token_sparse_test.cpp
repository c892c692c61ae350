// NSA and DSA: their kernels do all of the operator's work, and cost what they must.

#include <catch2/catch_test_macros.hpp>
#include <random>

#include "models/cost/cost_model.hpp"
#include "tests/kernels/complete.hpp"

namespace tessera::kernels {
namespace {

using tile::testing::ampere;
using tile::testing::check_operator;
using tile::testing::hopper;

TEST_CASE("native sparse attention of random shapes is complete") {
  std::mt19937_64 random{5};
  const auto pick = [&](std::int64_t least, std::int64_t most) {
    return least + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most - least + 1));
  };
  for (int i = 0; i < 8; ++i) {
    const std::int64_t kv_heads = pick(1, 2);
    const models::NativeSparse op{.batch = pick(1, 2),
                                  .seq = pick(1, 300),
                                  .heads = kv_heads * pick(1, 17),
                                  .kv_heads = kv_heads,
                                  .head_dim = i % 2 == 0 ? 64 : 128,
                                  .selected = pick(1, 5),
                                  .window = pick(1, 200)};
    check_operator(op, i % 3 == 2 ? ampere() : hopper(), false);
  }
}

TEST_CASE("DeepSeek sparse attention of random shapes is complete, split or not") {
  std::mt19937_64 random{6};
  const auto pick = [&](std::int64_t least, std::int64_t most) {
    return least + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most - least + 1));
  };
  for (int i = 0; i < 10; ++i) {
    const std::int64_t context = pick(1, 3000);
    const models::IndexedLatent op{.batch = pick(1, 2),
                                   .context = context,
                                   .q_rows = i % 2 == 0 ? 1 : std::min<std::int64_t>(context, pick(1, 60)),
                                   .heads = i % 3 == 0 ? 128 : pick(1, 70),
                                   .selected = pick(1, 700),
                                   .index_dtype = models::Dtype::bf16};
    check_operator(op, i % 4 == 3 ? ampere() : hopper(), true);
  }
}

TEST_CASE("DSA's attention no longer grows with the context, its indexer does; NSA grows slower than dense") {
  const GpuSpec gpu = hopper();
  cost::CostModel cost{gpu};
  const auto dsa = [&](std::int64_t context) {
    return cost.cost(models::IndexedLatent{.batch = 32, .context = context, .heads = 128}, {}).latency_us;
  };
  const auto dense = [&](std::int64_t context) {
    return cost.cost(models::LatentDecode{.batch = 32, .context = context, .heads = 128}, {}).latency_us;
  };
  CHECK(dsa(131072) < dense(131072) / 2);
  CHECK(dsa(131072) > dsa(8192));
  CHECK(dsa(131072) < 4 * dsa(32768));
  const auto nsa = [&](std::int64_t seq) {
    return cost.cost(models::NativeSparse{.seq = seq, .heads = 64, .kv_heads = 4}, {}).latency_us;
  };
  const auto full = [&](std::int64_t seq) {
    return cost
        .cost(
            models::Attention{
                .q_rows = seq, .kv_rows = seq, .heads = 64, .kv_heads = 4, .head_dim = 128, .causal = true},
            {})
        .latency_us;
  };
  CHECK(nsa(65536) / nsa(16384) < full(65536) / full(16384) / 1.5);
  // An 8-bit indexer is faster than a 16-bit one.
  models::IndexedLatent prefill{.context = 16384, .q_rows = 2048, .heads = 128};
  const double eight = cost.cost(prefill, {}).latency_us;
  prefill.index_dtype = models::Dtype::bf16;
  CHECK(cost.cost(prefill, {}).latency_us > eight);
}

}  // namespace
}  // namespace tessera::kernels
