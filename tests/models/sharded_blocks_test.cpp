// MLA and KDA blocks by the sharded dataflow equal the whole.

#include "models/reference/sharded_blocks.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>

#include "tests/models/random_sharding.hpp"

namespace tessera::models::reference {
namespace {

/// Of the largest value of `b`.
double relative_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0, largest = 1e-300;
  for (std::size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, std::abs(a[i] - b[i]));
    largest = std::max(largest, std::abs(b[i]));
  }
  return worst / largest;
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine{seed} {}
  std::int64_t pick(std::int64_t least, std::int64_t most) {
    return std::uniform_int_distribution<std::int64_t>{least, most}(engine);
  }
  std::vector<double> matrix(std::int64_t outputs, std::int64_t inputs) {
    std::normal_distribution<double> normal{0, 1 / std::sqrt(static_cast<double>(inputs))};
    std::vector<double> v(static_cast<std::size_t>(outputs * inputs));
    for (double& x : v) x = normal(engine);
    return v;
  }
  std::vector<double> between(std::int64_t n, double least, double most) {
    std::uniform_real_distribution<double> uniform{least, most};
    std::vector<double> v(static_cast<std::size_t>(n));
    for (double& x : v) x = uniform(engine);
    return v;
  }
  MlaWeights mla() {
    MlaWeights w{.hidden = pick(2, 12),
                 .q_lora = pick(0, 1) * pick(1, 6),
                 .shape = {pick(1, 4), pick(1, 9), pick(1, 5), 2 * pick(1, 3), pick(1, 6)},
                 .theta = pick(0, 1) == 1 ? 1e4 : 0.0};
    const LatentShape& s = w.shape;
    if (w.q_lora > 0) {
      w.q_down = matrix(w.q_lora, w.hidden);
      w.q_norm = between(w.q_lora, 0.5, 1.5);
    }
    w.q = matrix(s.query_width(), w.q_lora > 0 ? w.q_lora : w.hidden);
    w.kv_down = matrix(s.cache_width(), w.hidden);
    w.kv_norm = between(s.latent, 0.5, 1.5);
    w.up = {matrix(s.heads * s.nope, s.latent), matrix(s.heads * s.value, s.latent)};
    w.out = matrix(w.hidden, s.heads * s.value);
    return w;
  }
  KdaWeights kda() {
    KdaWeights w{.hidden = pick(2, 9), .heads = pick(1, 6), .head_dim = pick(2, 5), .rank = pick(1, 4)};
    const std::int64_t width = w.heads * w.head_dim;
    for (auto* linear : {&w.q, &w.k, &w.v}) *linear = matrix(width, w.hidden);
    for (auto* conv : {&w.conv_q, &w.conv_k, &w.conv_v}) *conv = matrix(width, w.taps);
    for (auto* down : {&w.decay_down, &w.gate_down}) *down = matrix(w.rank, w.hidden);
    for (auto* up : {&w.decay_up, &w.gate_up}) *up = matrix(width, w.rank);
    w.a_log = between(w.heads, -1, 1);
    w.dt_bias = between(width, -1, 1);
    w.beta = matrix(w.heads, w.hidden);
    w.norm = between(w.head_dim, 0.5, 1.5);
    w.out = matrix(w.hidden, width);
    return w;
  }

  std::mt19937_64 engine;
};

std::vector<double> rows_of(const std::vector<double>& x, std::int64_t width, std::int64_t first,
                            std::int64_t count) {
  return {x.begin() + first * width, x.begin() + (first + count) * width};
}

TEST_CASE("a sharded MLA block equals the whole to 1e-12, prompt and absorbed decode") {
  Random random{2027};
  for (int i = 0; i < 60; ++i) {
    const MlaWeights w = random.mla();
    const std::int64_t tokens = random.pick(1, 24), prompt = random.pick(1, tokens);
    const Sharding sharding{testing::random_partition(tokens, 1 + i % 6, random.engine),
                            testing::random_partition(tokens, 1 + i % 4, random.engine)};
    const std::vector<double> hidden = random.matrix(tokens, w.hidden);
    const std::vector<double> whole = mla_block(w, hidden);
    INFO("case " << i << ": " << prompt << " of " << tokens << " tokens");
    CHECK(relative_difference(sharded_mla_block(w, sharding, rows_of(hidden, w.hidden, 0, prompt)),
                              rows_of(whole, w.hidden, 0, prompt)) < 1e-12);
    std::vector<Rows> caches = sharded_latents(w, sharding, rows_of(hidden, w.hidden, 0, prompt));
    for (std::int64_t t = prompt; t < tokens; ++t) {
      CHECK(relative_difference(sharded_mla_decode(w, sharding, caches, static_cast<std::int32_t>(t),
                                                   rows_of(hidden, w.hidden, t, 1)),
                                rows_of(whole, w.hidden, t, 1)) < 1e-12);
    }
  }
}

TEST_CASE(
    "a sharded KDA block equals the whole to 1e-12, prompt and decode, more nodes than heads included") {
  Random random{2029};
  for (int i = 0; i < 60; ++i) {
    const KdaWeights w = random.kda();
    const std::int64_t tokens = random.pick(1, 24), prompt = random.pick(1, tokens);
    const std::int64_t beta = random.pick(1, 3);
    const std::vector<double> hidden = random.matrix(tokens, w.hidden);
    KdaState state = empty_state(w);
    const std::vector<double> whole = kda_block(w, hidden, state, 0);
    std::vector<KdaState> states = empty_states(w, beta * beta);
    INFO("case " << i << ": " << w.heads << " heads over " << beta * beta << " nodes");
    const Partition r = testing::random_partition(prompt, 1 + i % 6, random.engine);
    CHECK(relative_difference(
              sharded_kda_block(w, r, rows_of(hidden, w.hidden, 0, prompt), states, random.pick(1, 8)),
              rows_of(whole, w.hidden, 0, prompt)) < 1e-12);
    for (std::int64_t t = prompt; t < tokens; ++t) {
      const Partition one{1, {{}, {0}}};
      CHECK(relative_difference(sharded_kda_block(w, one, rows_of(hidden, w.hidden, t, 1), states, 0),
                                rows_of(whole, w.hidden, t, 1)) < 1e-12);
    }
    // Together the nodes hold the whole's state, head by head.
    std::vector<double> together;
    for (const KdaState& s : states) together.insert(together.end(), s.state.begin(), s.state.end());
    CHECK(relative_difference(together, state.state) < 1e-12);
  }
}

TEST_CASE(
    "a KDA block by segments equals the recurrence to 1e-12: empty segments, one token, from a state, "
    "decode") {
  Random random{2031};
  for (int i = 0; i < 80; ++i) {
    const KdaWeights w = random.kda();
    const std::int64_t tokens = i % 7 == 0 ? 1 : random.pick(1, 24), cached = random.pick(0, tokens - 1),
                       prompt = random.pick(cached + 1, tokens);
    const std::int64_t beta = random.pick(1, 3);
    const std::vector<double> hidden = random.matrix(tokens, w.hidden);
    KdaState whole_state = empty_state(w), state = empty_state(w);
    const std::vector<double> whole = kda_block(w, hidden, whole_state, 0);
    INFO("case " << i << ": " << cached << " cached, " << prompt - cached << " of " << tokens
                 << " tokens over " << beta * beta << " nodes");
    // Some tokens before, as of an earlier request; a prompt over the nodes; the rest one by one.
    if (cached > 0) kda_block(w, rows_of(hidden, w.hidden, 0, cached), state, random.pick(1, 8));
    const Partition r = testing::random_partition(prompt - cached, 1 + i % 6, random.engine);
    CHECK(relative_difference(
              segmented_kda_block(w, r, beta * beta, rows_of(hidden, w.hidden, cached, prompt - cached),
                                  state, random.pick(1, 8)),
              rows_of(whole, w.hidden, cached, prompt - cached)) < 1e-12);
    for (std::int64_t t = prompt; t < tokens; ++t)
      CHECK(relative_difference(kda_block(w, rows_of(hidden, w.hidden, t, 1), state, 0),
                                rows_of(whole, w.hidden, t, 1)) < 1e-12);
    CHECK(relative_difference(state.state, whole_state.state) < 1e-12);
  }
}

}  // namespace
}  // namespace tessera::models::reference
