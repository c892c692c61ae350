// Latent attention: the forms against each other, shards against the whole, the operators' counts.

#include "models/reference/latent.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <numeric>
#include <random>
#include <stdexcept>

#include "models/operators/operator.hpp"
#include "tests/models/random_sharding.hpp"
#include "tests/models/random_values.hpp"

namespace tessera::models {
namespace {

using namespace reference;
using testing::largest_difference;
using testing::random_values;

/// Some rows of `all`, which has one per position 0, 1, 2, ...
Rows rows_at(const Rows& all, const std::vector<std::int32_t>& positions) {
  Rows rows{positions, {}};
  const auto width = static_cast<std::ptrdiff_t>(all.values.size() / all.positions.size());
  for (const std::int32_t p : positions)
    rows.values.insert(rows.values.end(), all.values.begin() + p * width,
                       all.values.begin() + (p + 1) * width);
  return rows;
}

struct Case {
  LatentShape shape;
  LatentWeights weights;
  Rows queries, cache;
};

Case random_case(std::int64_t tokens, std::mt19937_64& random) {
  const auto pick = [&](int least, int most) {
    return std::uniform_int_distribution<int>{least, most}(random);
  };
  Case c;
  c.shape = {pick(1, 5), pick(1, 12), pick(1, 6), pick(1, 5), pick(1, 7)};
  const LatentShape& s = c.shape;
  c.weights = {random_values(s.heads * s.nope * s.latent, random),
               random_values(s.heads * s.value * s.latent, random)};
  std::vector<std::int32_t> all(static_cast<std::size_t>(tokens));
  std::iota(all.begin(), all.end(), 0);
  c.queries = {all, random_values(tokens * s.query_width(), random)};
  c.cache =
      latent_cache(s, all, random_values(tokens * s.latent, random), random_values(tokens * s.rope, random));
  return c;
}

TEST_CASE("absorbed latent attention equals the naive form to 1e-12, whole and in shards") {
  std::mt19937_64 random{405};
  for (int i = 0; i < 200; ++i) {
    const std::int64_t tokens = 1 + i % 29;
    const Case c = random_case(tokens, random);
    const bool causal = i % 3 != 0;
    const Partial whole = naive_latent_attention(c.shape, c.weights, c.queries, c.cache, causal);
    const Partial absorbed = absorbed_latent_attention(c.shape, c.weights, c.queries, c.cache, causal);
    INFO("case " << i << ": " << tokens << " tokens, " << c.shape.heads << " heads");
    REQUIRE(largest_difference(whole.out, absorbed.out) < 1e-12);
    REQUIRE(largest_difference(whole.max, absorbed.max) < 1e-12);
    for (std::size_t p = 0; p < whole.expsum.size(); ++p)
      REQUIRE(std::abs(absorbed.expsum[p] / whole.expsum[p] - 1) < 1e-12);

    // AttnNode (j, k) has the queries of S_j and the cached rows of S_k, and uses either form.
    const Partition s = testing::random_partition(tokens, 1 + i % 4, random);
    for (const auto& mine : s.sets) {
      std::vector<Partial> parts;
      for (const auto& theirs : s.sets) {
        const auto form = random() % 2 == 0 ? naive_latent_attention : absorbed_latent_attention;
        parts.push_back(form(c.shape, c.weights, rows_at(c.queries, mine), rows_at(c.cache, theirs), causal));
      }
      const std::vector<double> merged = merge(c.shape.merged(), parts);
      const auto width = c.shape.heads * c.shape.value;
      for (std::size_t r = 0; r < mine.size(); ++r) {
        for (std::int64_t x = 0; x < width; ++x) {
          const double want = whole.out[static_cast<std::size_t>(mine[r] * width + x)];
          REQUIRE(std::abs(merged[r * static_cast<std::size_t>(width) + static_cast<std::size_t>(x)] - want) <
                  1e-12);
        }
      }
    }
  }
}

TEST_CASE("the naive form is dense attention over up-projected keys and values") {
  // With W_uk and W_uv the identity and no rotated columns to tell heads apart, keys are the latents.
  std::mt19937_64 random{3};
  const LatentShape s{.heads = 2, .latent = 4, .nope = 4, .rope = 2, .value = 4};
  LatentWeights w{std::vector<double>(32), std::vector<double>(32)};
  for (std::size_t h = 0; h < 2; ++h) {
    for (std::size_t i = 0; i < 4; ++i) w.up_k[h * 16 + i * 5] = w.up_v[h * 16 + i * 5] = 1;
  }
  const std::vector<std::int32_t> at{0, 1, 2, 3, 4};
  const Rows queries{at, random_values(5 * 12, random)};
  const Rows cache = latent_cache(s, at, random_values(20, random), random_values(10, random));
  CHECK(cache.values.size() == 5 * 6);
  // Dense attention of head_dim 6 with one key head: v is k, of whose output the first four columns count.
  const std::vector<double> dense = attention({2, 1, 6}, queries, cache, cache, true);
  const std::vector<double> latent = naive_latent_attention(s, w, queries, cache, true).out;
  for (std::size_t pair = 0; pair < 10; ++pair) {
    for (std::size_t x = 0; x < 4; ++x) CHECK(std::abs(dense[pair * 6 + x] - latent[pair * 4 + x]) < 1e-14);
  }
}

TEST_CASE("a row that sees no cached row adds nothing to the merge") {
  std::mt19937_64 random{5};
  const Case c = random_case(4, random);
  const Partial none =
      absorbed_latent_attention(c.shape, c.weights, rows_at(c.queries, {0}), rows_at(c.cache, {1, 3}), true);
  CHECK(none.expsum == std::vector<double>(static_cast<std::size_t>(c.shape.heads)));
  const Partial own =
      absorbed_latent_attention(c.shape, c.weights, rows_at(c.queries, {0}), rows_at(c.cache, {0}), true);
  CHECK(merge(c.shape.merged(), {none, own}) == own.out);
}

std::int64_t bytes_of_role(const Operator& op, std::string_view role) {
  for (const Operand& o : operands_of(op)) {
    if (o.role == role) return o.bytes;
  }
  return -1;
}

TEST_CASE("counts of latent attention") {
  // DeepSeek-V3: 576 cached elements, 1152 B in bf16; 2 x heads x context x (576 + 512) FLOPs a token.
  const LatentDecode step{.batch = 3, .context = 1000, .heads = 128};
  CHECK(bytes_of_role(step, "latent_cache") == 3 * 1000 * 1152);
  CHECK(flops_of(step) == 2.0 * 3 * 128 * 1000 * (576 + 512));
  // Of a causal prefill the naive form does T (T + 1) / 2 heads (192 + 128).
  const LatentAttention naive{.q_rows = 100, .kv_rows = 100, .heads = 16, .causal = true};
  CHECK(flops_of(naive) == 2.0 * 16 * 5050 * (192 + 128));
  CHECK(bytes_of_role(naive, "k") == 100 * 16 * 192 * 2);
  CHECK(bytes_of_role(naive, "out") == 100 * 16 * 128 * 2);
  const LatentDecode absorbed{.context = 100, .heads = 16, .q_rows = 100};
  CHECK(flops_of(absorbed) == 2.0 * 16 * 5050 * (576 + 512));
  const LatentDecode full{.context = 100, .heads = 16, .q_rows = 7, .causal = false};
  CHECK(flops_of(full) == 2.0 * 16 * 700 * (576 + 512));
  CHECK(bytes_of_role(LatentDecode{.context = 9, .heads = 2, .partial = true}, "max_expsum") == 2 * 8);
  const BatchedGemm products{.batches = 4, .m = 3, .n = 5, .k = 7};
  CHECK(flops_of(products) == 2.0 * 4 * 3 * 5 * 7);
  CHECK(min_bytes_of(products) == 2 * 4 * (21 + 35 + 15));
}

TEST_CASE("shards of latent attention see together what the whole sees") {
  std::mt19937_64 random{12};
  for (int i = 0; i < 50; ++i) {
    const std::int64_t tokens = 1 + i;
    const Partition s = testing::random_partition(tokens, 1 + i % 4, random);
    double sum = 0;
    for (const auto& rows : s.sets) {
      for (const auto& columns : s.sets) {
        if (rows.empty() || columns.empty()) continue;
        sum += flops_of(
            LatentAttention{.q_rows = static_cast<std::int64_t>(rows.size()),
                            .kv_rows = static_cast<std::int64_t>(columns.size()),
                            .heads = 2,
                            .causal = true,
                            .partial = true,
                            .q_positions = std::make_shared<const std::vector<std::int32_t>>(rows),
                            .kv_positions = std::make_shared<const std::vector<std::int32_t>>(columns)});
      }
    }
    CHECK(sum == flops_of(LatentAttention{.q_rows = tokens, .kv_rows = tokens, .heads = 2, .causal = true}));
  }
}

TEST_CASE("impossible latent attention is refused, and signatures tell shapes apart") {
  CHECK_THROWS_AS(check(LatentDecode{.context = 4, .heads = 2, .q_rows = 5}), std::invalid_argument);
  CHECK_NOTHROW(check(LatentDecode{.context = 4, .heads = 2, .q_rows = 5, .causal = false}));
  CHECK_THROWS_AS(check(LatentDecode{.context = 4, .heads = 2, .partial = true, .paged = true}),
                  std::invalid_argument);
  CHECK_THROWS_AS(check(LatentAttention{.q_rows = 4, .kv_rows = 3, .heads = 1, .causal = true}),
                  std::invalid_argument);
  CHECK_THROWS_AS(check(LatentAttention{.q_rows = 4, .kv_rows = 4, .heads = 0}), std::invalid_argument);
  CHECK_THROWS_AS(check(BatchedGemm{.batches = 0, .m = 1, .n = 1, .k = 1}), std::invalid_argument);
  const LatentDecode a{.context = 8, .heads = 2};
  LatentDecode b = a;
  b.causal = false;
  CHECK(signature_of(a) != signature_of(b));
  b = a;
  b.rope = 32;
  CHECK(signature_of(a) != signature_of(b));
  b = a, b.algorithm = LatentAlgorithm::triton;
  CHECK(signature_of(a) != signature_of(b));
  b.algorithm = LatentAlgorithm::flash2;
  CHECK_THROWS_AS(check(b), std::invalid_argument);
  LatentAttention c{.q_rows = 2, .kv_rows = 2, .heads = 1, .causal = true};
  c.algorithm = LatentAlgorithm::triton;
  CHECK_THROWS_AS(check(c), std::invalid_argument);
  c.algorithm = LatentAlgorithm::by_gpu;
  const std::string contiguous = signature_of(c);
  c.kv_positions = std::make_shared<const std::vector<std::int32_t>>(std::vector<std::int32_t>{0, 5});
  CHECK(signature_of(c) != contiguous);
}

}  // namespace
}  // namespace tessera::models
