#include "models/reference/linear_attention.hpp"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>

#include "models/operators/operator.hpp"

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
  explicit Random(std::uint64_t seed) : random_{seed} {}
  std::int64_t pick(std::int64_t least, std::int64_t most) {
    return std::uniform_int_distribution<std::int64_t>{least, most}(random_);
  }
  std::vector<double> normal(std::int64_t n, double spread = 1) {
    std::normal_distribution<double> normal{0, spread};
    std::vector<double> v(static_cast<std::size_t>(n));
    for (double& x : v) x = normal(random_);
    return v;
  }
  std::vector<double> between(std::int64_t n, double least, double most) {
    std::uniform_real_distribution<double> uniform{least, most};
    std::vector<double> v(static_cast<std::size_t>(n));
    for (double& x : v) x = uniform(random_);
    return v;
  }
  /// `parts` numbers, zero allowed, that add up to n.
  std::vector<std::int64_t> split(std::int64_t n, std::int64_t parts) {
    std::vector<std::int64_t> sizes(static_cast<std::size_t>(parts), 0);
    for (std::int64_t i = 0; i < n; ++i) ++sizes[static_cast<std::size_t>(pick(0, parts - 1))];
    return sizes;
  }
  LinearTokens tokens(const Recurrence& rule, const LinearShape& s, std::int64_t n) {
    LinearTokens in{.tokens = n,
                    .q = normal(n * s.heads * s.k_dim),
                    .k = normal(n * s.heads * s.k_dim),
                    .v = normal(n * s.heads * s.v_dim)};
    // Keys of length 1, as the delta rule needs so that the state does not grow.
    for (auto row = in.k.begin(); row != in.k.end(); row += s.k_dim) {
      double sum = 0;
      for (auto k = row; k != row + s.k_dim; ++k) sum += *k * *k;
      for (auto k = row; k != row + s.k_dim; ++k) *k /= std::sqrt(sum);
    }
    const std::int64_t decays = rule.decay == Decay::vector     ? n * s.heads * s.k_dim
                                : rule.decay == Decay::scalar   ? n * s.heads
                                : rule.decay == Decay::constant ? s.heads
                                                                : 0;
    in.log_decay = between(decays, -2, 0);
    in.beta = between(n * s.heads, 0, 1);
    return in;
  }

 private:
  std::mt19937_64 random_;
};

// Members of the family that have no kernels, but must have numbers.
constexpr Recurrence kDeltaNet{"", "", "DeltaNet", Decay::none, true, true, true};
constexpr Recurrence kLinear{"", "", "linear attention", Decay::none, false, false, false};
constexpr Recurrence kGatedLinear{"", "", "gated linear attention", Decay::vector, false, false, false};

std::vector<Recurrence> all_rules() {
  std::vector<Recurrence> rules{kRecurrences.begin(), kRecurrences.end()};
  rules.insert(rules.end(), {kDeltaNet, kLinear, kGatedLinear});
  return rules;
}

TEST_CASE("every rule: chunks, segments and head groups equal the recurrence to 1e-12") {
  Random random{20251026};
  for (const Recurrence& rule : all_rules()) {
    for (int i = 0; i < 40; ++i) {
      const LinearShape shape{random.pick(1, 3), random.pick(1, 9), random.pick(1, 9)};
      // 16: FlashKDA's chunks.
      const std::int64_t tokens = i == 0   ? 1
                                  : i == 1 ? 0
                                  : i == 2 ? 50
                                           : random.pick(1, 50),
                         chunk = i == 2 ? 16 : random.pick(1, 17);
      const LinearTokens in = random.tokens(rule, shape, tokens);
      const std::vector<double> state = random.normal(shape.state_values());
      const LinearResult want = recurrent(rule, shape, in, state);
      INFO(rule.name << ", case " << i << ": " << tokens << " tokens in chunks of " << chunk);
      const LinearResult forms[] = {
          chunkwise(rule, shape, in, state, chunk),
          segmented(rule, shape, in, state, random.split(tokens, random.pick(1, 7)), chunk),
          head_split(rule, shape, in, state, random.split(shape.heads, random.pick(1, 4)), chunk)};
      for (const LinearResult& form : forms) {
        CHECK(relative_difference(form.out, want.out) <= 1e-12);
        CHECK(relative_difference(form.state, want.state) <= 1e-12);
      }
    }
  }
}

TEST_CASE("a state map is the segment, and an empty segment leaves the state alone") {
  Random random{7};
  const LinearShape shape{2, 6, 5};
  for (const Recurrence& rule : all_rules()) {
    const LinearTokens in = random.tokens(rule, shape, 23);
    const std::vector<double> state = random.normal(shape.state_values());
    CHECK(relative_difference(apply(shape, state_map(rule, shape, in), state),
                              recurrent(rule, shape, in, state).state) <= 1e-12);
    CHECK(apply(shape, state_map(rule, shape, random.tokens(rule, shape, 0)), state) == state);
  }
}

TEST_CASE("the rules differ from each other") {
  // Otherwise the comparison above could not fail where it should.
  Random random{9};
  const LinearShape shape{1, 4, 4};
  const LinearTokens in = random.tokens(kKda, shape, 12);
  LinearTokens scalar = in;
  scalar.log_decay.resize(12);
  const std::vector<double> zero(16);
  const std::vector<double> kda = recurrent(kKda, shape, in, zero).out;
  CHECK(relative_difference(recurrent(kGatedDelta, shape, scalar, zero).out, kda) > 1e-3);
  CHECK(relative_difference(recurrent(kMamba2, shape, scalar, zero).out, kda) > 1e-3);
  CHECK(relative_difference(recurrent(kGatedLinear, shape, in, zero).out, kda) > 1e-3);
}

TEST_CASE("segments and head groups that do not add up are refused") {
  Random random{11};
  const LinearShape shape{2, 3, 3};
  const LinearTokens in = random.tokens(kKda, shape, 5);
  const std::vector<double> state(18);
  CHECK_THROWS_AS(segmented(kKda, shape, in, state, {2, 2}, 4), std::invalid_argument);
  CHECK_THROWS_AS(head_split(kKda, shape, in, state, {1}, 4), std::invalid_argument);
}

TEST_CASE("a KDA block in chunks, and continued, equals itself token by token") {
  Random random{13};
  for (int i = 0; i < 10; ++i) {
    KdaWeights w;
    w.hidden = random.pick(2, 9);
    w.heads = random.pick(1, 3);
    w.head_dim = random.pick(2, 6);
    w.rank = random.pick(1, 4);
    const std::int64_t width = w.heads * w.head_dim;
    for (auto* linear : {&w.q, &w.k, &w.v}) *linear = random.normal(width * w.hidden);
    for (auto* conv : {&w.conv_q, &w.conv_k, &w.conv_v}) *conv = random.normal(width * w.taps);
    for (auto* down : {&w.decay_down, &w.gate_down}) *down = random.normal(w.rank * w.hidden);
    for (auto* up : {&w.decay_up, &w.gate_up}) *up = random.normal(width * w.rank);
    w.a_log = random.between(w.heads, -1, 1);
    w.dt_bias = random.normal(width);
    w.beta = random.normal(w.heads * w.hidden);
    w.norm = random.between(w.head_dim, 0.5, 1.5);
    w.out = random.normal(w.hidden * width);
    const std::int64_t tokens = random.pick(1, 30), first = random.pick(0, tokens);
    const std::vector<double> x = random.normal(tokens * w.hidden);
    KdaState by_token = empty_state(w), in_chunks = empty_state(w);
    const std::vector<double> want = kda_block(w, x, by_token, 0);
    std::vector<double> got = kda_block(w, {x.begin(), x.begin() + first * w.hidden}, in_chunks, 8);
    const std::vector<double> rest = kda_block(w, {x.begin() + first * w.hidden, x.end()}, in_chunks, 8);
    got.insert(got.end(), rest.begin(), rest.end());
    CHECK(relative_difference(got, want) <= 1e-12);
    CHECK(relative_difference(in_chunks.state, by_token.state) <= 1e-12);
    CHECK(in_chunks.conv_q == by_token.conv_q);
  }
}

TEST_CASE("linear attention's bytes are those of Kimi-Linear") {
  const LinearAttention kda{.batch = 1, .seq = 1000, .heads = 32};
  CHECK(state_bytes(kda) == 2'097'152);  // 32 heads of 128 x 128, fp32
  CHECK(state_traffic_bytes(kda) == 2 * 2'097'152);
  CHECK(state_bytes(CausalConv1d{.batch = 1, .seq = 1, .channels = 4096}) ==
        73'728);  // three inputs of q, k, v
  const LinearDecode verify{.batch = 2, .heads = 4, .tokens = 3, .form = DecodeForm::verify};
  CHECK(state_traffic_bytes(verify) == 4 * 2 * state_bytes(verify));
  for (const Recurrence& rule : kRecurrences) {
    const Operator op = LinearAttention{.rule = rule, .batch = 2, .seq = 70, .heads = 4};
    CHECK(kind_of(op) == rule.prefill_kind);
    CHECK(kind_of(LinearDecode{.rule = rule, .heads = 1}) == rule.decode_kind);
    CHECK_NOTHROW(check(op));
    CHECK(signature_of(op) != signature_of(LinearAttention{.rule = rule, .batch = 2, .seq = 71, .heads = 4}));
  }
  CHECK_THROWS_AS(check(LinearAttention{.seq = 0, .heads = 1}), std::invalid_argument);
  CHECK_THROWS_AS(check(LinearDecode{.heads = 1, .tokens = 2}), std::invalid_argument);
  CHECK_THROWS_AS(check(CausalConv1d{.seq = 1, .channels = 1, .taps = 1}), std::invalid_argument);
}

}  // namespace
}  // namespace tessera::models::reference
