#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>

#include "models/reference/layer.hpp"
#include "tests/models/random_sharding.hpp"
#include "tests/models/random_values.hpp"

namespace tessera::models::reference {
namespace {

using testing::largest_difference;
using testing::random_values;

Architecture random_model(std::mt19937_64& random) {
  const auto pick = [&](int least, int most) {
    return std::uniform_int_distribution<int>{least, most}(random);
  };
  Architecture m;
  m.name = "random";
  DenseShape d;
  d.kv_heads = pick(1, 2);
  d.heads = d.kv_heads << pick(0, 3);  // GQA ratios 1, 2, 4, 8
  d.head_dim = 2 * pick(1, 6);
  m.hidden = pick(4, 20);
  MlpShape mlp{.width = pick(4, 24)};
  m.causal = pick(0, 1) == 1;
  d.rope = pick(0, 1) == 1;
  mlp.gated = pick(0, 1) == 1;
  m.post_norm = pick(0, 1) == 1;
  m.norm = pick(0, 1) == 1 ? NormKind::rms : NormKind::layer;
  d.qk_norm = pick(0, 1) == 1;
  m.layers = {{d, mlp}};
  return m;
}

TEST_CASE("a sharded layer equals the unsharded one to 1e-12") {
  std::mt19937_64 random{20250705};
  const auto pick = [&](int least, int most) {
    return std::uniform_int_distribution<int>{least, most}(random);
  };
  for (int i = 0; i < 400; ++i) {
    const Architecture model = random_model(random);
    const std::int64_t tokens = pick(1, 40);
    const LayerWeights weights = random_weights(model, random);
    const Sharding sharding{testing::random_partition(tokens, pick(1, 8), random),
                            testing::random_partition(tokens, pick(1, 4), random)};
    const std::vector<double> hidden = random_values(tokens * model.hidden, random);
    const std::vector<double> whole = layer(model, weights, hidden);
    INFO("case " << i << ": " << tokens << " tokens, alpha " << sharding.alpha() << ", beta "
                 << sharding.beta());
    REQUIRE(largest_difference(whole, sharded_layer(model, weights, sharding, hidden)) < 1e-12);
  }
}

/// A few layers' worth of weights.
std::vector<LayerWeights> random_stack(const Architecture& model, int layers, std::mt19937_64& random) {
  std::vector<LayerWeights> stack;
  for (int l = 0; l < layers; ++l) stack.push_back(random_weights(model, random));
  return stack;
}

TEST_CASE("sharded prefill and decode over cached shards equal the causal model to 1e-12") {
  std::mt19937_64 random{507};
  const auto pick = [&](int least, int most) {
    return std::uniform_int_distribution<int>{least, most}(random);
  };
  for (int i = 0; i < 300; ++i) {
    Architecture model = random_model(random);
    model.causal = true;
    const int prompt = pick(1, 16), steps = pick(1, 12), tokens = prompt + steps;
    const std::vector<LayerWeights> stack = random_stack(model, pick(1, 3), random);
    const Sharding sharding{testing::random_partition(tokens, pick(1, 8), random),
                            testing::random_partition(tokens, pick(1, 4), random)};
    const auto width = static_cast<std::ptrdiff_t>(model.hidden);
    const std::vector<double> inputs = random_values(tokens * model.hidden, random);
    std::vector<double> expected = inputs;
    for (const LayerWeights& w : stack) expected = layer(model, w, expected);

    std::vector<double> hidden{inputs.begin(), inputs.begin() + prompt * width};
    std::vector<std::vector<KvCache>> caches;  // per layer
    std::vector<KvCache> whole_caches;
    const std::vector<std::int32_t> all = contiguous(prompt, 1).sets[0];
    for (const LayerWeights& w : stack) {
      caches.push_back(sharded_caches(model, w, sharding, hidden));
      whole_caches.push_back(cache_of(model, w, all, hidden));
      hidden = sharded_layer(model, w, sharding, hidden);
    }
    INFO("case " << i << ": " << prompt << " + " << steps << " tokens, alpha " << sharding.alpha()
                 << ", beta " << sharding.beta());
    REQUIRE(largest_difference({expected.begin(), expected.begin() + prompt * width}, hidden) < 1e-12);
    for (std::int32_t t = prompt; t < tokens; ++t) {
      const std::vector<double> want{expected.begin() + t * width, expected.begin() + (t + 1) * width};
      std::vector<double> row{inputs.begin() + t * width, inputs.begin() + (t + 1) * width}, whole = row;
      for (std::size_t l = 0; l < stack.size(); ++l) {
        row = sharded_decode(model, stack[l], sharding, caches[l], t, row);
        whole = decode(model, stack[l], whole_caches[l], t, whole);
      }
      REQUIRE(largest_difference(want, row) < 1e-12);
      REQUIRE(largest_difference(want, whole) < 1e-12);
    }
    // Every row of AttnNodes holds every token once: beta copies in all.
    for (const auto& cache : caches) {
      for (std::size_t j = 0; j < sharding.s.sets.size(); ++j) {
        for (std::size_t k = 0; k < sharding.s.sets.size(); ++k)
          REQUIRE(cache[j * sharding.s.sets.size() + k].k.positions == sharding.s.sets[k]);
      }
    }
  }
}

TEST_CASE("attention equals the textbook: k and v repeated per query head, explicit mask, plain softmax") {
  std::mt19937_64 random{11};
  for (const std::int64_t ratio : {1, 2, 4, 8}) {
    for (const bool causal : {false, true}) {
      const std::int64_t kv_heads = 2, d = 3, heads = kv_heads * ratio;
      const HeadShape shape{heads, kv_heads, d};
      // Rows at scattered positions; the first q row sees nothing when causal.
      const std::vector<std::int32_t> at_q{1, 4, 5, 9}, at_k{2, 3, 5, 7, 8};
      const auto rows = static_cast<std::int64_t>(at_q.size()),
                 columns = static_cast<std::int64_t>(at_k.size());
      const Rows q{at_q, random_values(rows * heads * d, random)},
          k{at_k, random_values(columns * kv_heads * d, random)},
          v{at_k, random_values(columns * kv_heads * d, random)};
      const Partial p = partial_attention(shape, q, k, v, causal);
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t h = 0; h < heads; ++h) {
          double sum = 0;
          std::vector<double> out(static_cast<std::size_t>(d));
          for (std::int64_t c = 0; c < columns; ++c) {
            if (causal && at_k[static_cast<std::size_t>(c)] > at_q[static_cast<std::size_t>(r)]) continue;
            double score = 0;
            const auto element = [&](std::int64_t x) {
              return static_cast<std::size_t>((c * kv_heads + h / ratio) * d + x);
            };
            for (std::int64_t x = 0; x < d; ++x)
              score += q.values[static_cast<std::size_t>((r * heads + h) * d + x)] * k.values[element(x)];
            const double weight = std::exp(score / std::sqrt(3.0));
            sum += weight;
            for (std::int64_t x = 0; x < d; ++x)
              out[static_cast<std::size_t>(x)] += weight * v.values[element(x)];
          }
          const auto pair = static_cast<std::size_t>(r * heads + h);
          if (sum == 0) {
            REQUIRE(p.expsum[pair] == 0);
          } else {
            REQUIRE(std::abs(p.expsum[pair] * std::exp(p.max[pair]) / sum - 1) < 1e-14);
          }
          for (std::size_t x = 0; x < static_cast<std::size_t>(d); ++x) {
            const double want = sum == 0 ? 0 : out[x] / sum;
            REQUIRE(std::abs(p.out[pair * static_cast<std::size_t>(d) + x] - want) < 1e-14);
          }
        }
      }
    }
  }
}

TEST_CASE("norms, activations and linear layers have their textbook values") {
  // rms of (3, 4) is sqrt(12.5).
  CHECK(largest_difference(rms_norm({3, 4, 6, 8}, {1, 2}, 2),
                           {3 / std::sqrt(12.5 + 1e-5), 8 / std::sqrt(12.5 + 1e-5), 6 / std::sqrt(50 + 1e-5),
                            16 / std::sqrt(50 + 1e-5)}) < 1e-15);
  // mean 2, variance 1, and the next row's mean 0, variance 4.
  CHECK(largest_difference(layer_norm({1, 3, -2, 2}, {1, 5}, 2), {-1, 5, -1, 5}) < 1e-11);
  CHECK(std::abs(silu(1) - 0.73105857863000488) < 1e-15);
  CHECK(std::abs(gelu(1) - 0.84134474606854295) < 1e-15);
  CHECK(std::abs(gelu(-2) + 0.045500263896358414) < 1e-15);
  CHECK(linear({1, 2, 3, 4}, {1, 0, 0, 1, 1, 1}, 2, 3) == std::vector<double>{1, 2, 3, 3, 4, 7});
}

TEST_CASE("RoPE pairs element i with i + half, and scores depend on the distance only") {
  Rows unit{{0, 1, 5}, {1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0}};
  rope(unit, 1, 4, 10000);
  CHECK(largest_difference(unit.values, {1, 0, 0, 0, std::cos(1), 0, std::sin(1), 0, 0, std::cos(0.05), 0,
                                         std::sin(0.05)}) < 1e-15);
  std::mt19937_64 random{13};
  const std::vector<double> a = random_values(8, random), b = random_values(8, random);
  const auto score = [&](std::int32_t at_a, std::int32_t at_b) {
    Rows x{{at_a}, a}, y{{at_b}, b};
    rope(x, 1, 8, 10000);
    rope(y, 1, 8, 10000);
    double dot = 0;
    for (std::size_t i = 0; i < 8; ++i) dot += x.values[i] * y.values[i];
    return dot;
  };
  CHECK(std::abs(score(7, 3) - score(104, 100)) < 1e-12);
  CHECK(std::abs(score(7, 3) - score(7, 4)) > 1e-3);
}

TEST_CASE("partials merge to the whole with scores that would overflow without the row maximum") {
  std::mt19937_64 random{7};
  const HeadShape shape{4, 2, 8};
  for (int i = 0; i < 100; ++i) {
    const std::int64_t tokens = 1 + i % 33;
    const Partition all = contiguous(tokens, 1), split = testing::random_partition(tokens, 1 + i % 5, random);
    const auto n = static_cast<std::size_t>(tokens);
    const Rows q{all.sets[0], random_values(n * 32, random, 60)},
        k{all.sets[0], random_values(n * 16, random, 60)}, v{all.sets[0], random_values(n * 16, random)};
    std::vector<Partial> parts;
    for (const auto& set : split.sets) {
      Rows pk{set, {}}, pv{set, {}};
      for (const std::int32_t p : set) {
        pk.values.insert(pk.values.end(), k.values.begin() + p * 16, k.values.begin() + (p + 1) * 16);
        pv.values.insert(pv.values.end(), v.values.begin() + p * 16, v.values.begin() + (p + 1) * 16);
      }
      parts.push_back(partial_attention(shape, q, pk, pv, i % 2 == 0));
    }
    REQUIRE(largest_difference(merge(shape, parts), attention(shape, q, k, v, i % 2 == 0)) < 1e-12);
  }
}

TEST_CASE("a row that sees nothing returns expsum 0 and adds nothing") {
  const HeadShape shape{1, 1, 2};
  const Rows q{{0}, {1, 2}}, later{{5}, {3, 4}}, own{{0}, {5, 6}};
  const Partial blind = partial_attention(shape, q, later, later, true);
  CHECK(blind.expsum == std::vector<double>{0});
  CHECK(blind.out == std::vector<double>{0, 0});
  const Partial seeing = partial_attention(shape, q, own, own, true);
  CHECK(merge(shape, {blind, seeing}) == seeing.out);
}

TEST_CASE("attention of uniform scores is the mean of the visible values") {
  const HeadShape shape{1, 1, 2};
  const Rows q{{0, 1, 2}, {0, 0, 0, 0, 0, 0}}, v{{0, 1, 2}, {1, 10, 3, 20, 5, 60}};
  const std::vector<double> out = attention(shape, q, q, v, true);
  CHECK(largest_difference(out, {1, 10, 2, 15, 3, 30}) < 1e-15);
}

}  // namespace
}  // namespace tessera::models::reference
