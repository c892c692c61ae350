#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>

#include "models/reference/layer.hpp"
#include "tests/models/random_sharding.hpp"

namespace tessera::models::reference {
namespace {

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

std::vector<double> random_values(std::size_t n, std::mt19937_64& random, double spread = 1) {
  std::normal_distribution<double> normal{0, spread};
  std::vector<double> v(n);
  for (double& x : v) x = normal(random);
  return v;
}

Architecture random_model(std::mt19937_64& random) {
  const auto pick = [&](int least, int most) {
    return std::uniform_int_distribution<int>{least, most}(random);
  };
  Architecture m;
  m.name = "random";
  m.layers = 1;
  m.kv_heads = pick(1, 2);
  m.heads = m.kv_heads << pick(0, 3);  // GQA ratios 1, 2, 4, 8
  m.head_dim = 2 * pick(1, 6);
  m.hidden = pick(4, 20);
  m.intermediate = pick(4, 24);
  m.causal = pick(0, 1) == 1;
  m.rope = pick(0, 1) == 1;
  m.gated_mlp = pick(0, 1) == 1;
  m.post_norm = pick(0, 1) == 1;
  m.norm = pick(0, 1) == 1 ? NormKind::rms : NormKind::layer;
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
    const std::vector<double> hidden = random_values(static_cast<std::size_t>(tokens * model.hidden), random);
    const std::vector<double> whole = layer(model, weights, hidden);
    INFO("case " << i << ": " << tokens << " tokens, alpha " << sharding.alpha() << ", beta "
                 << sharding.beta());
    REQUIRE(largest_difference(whole, sharded_layer(model, weights, sharding, hidden)) < 1e-12);
  }
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
