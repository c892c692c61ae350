#include "models/reference/experts.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <numeric>
#include <random>
#include <stdexcept>

#include "models/operators/operator.hpp"

namespace tessera::models {
namespace {

using Catch::Matchers::ContainsSubstring;
namespace ref = reference;

std::int64_t sum(const std::vector<std::int32_t>& loads) {
  return std::accumulate(loads.begin(), loads.end(), std::int64_t{0});
}

std::vector<double> random_values(std::size_t n, std::mt19937_64& random) {
  std::normal_distribution<double> normal{0, 1};
  std::vector<double> v(n);
  for (double& x : v) x = normal(random);
  return v;
}

std::vector<ref::Expert> random_experts(std::size_t count, std::int64_t hidden, std::int64_t width,
                                        std::mt19937_64& random) {
  std::vector<ref::Expert> experts(count);
  const auto n = static_cast<std::size_t>(hidden * width);
  for (ref::Expert& e : experts)
    e = {random_values(n, random), random_values(n, random), random_values(n, random)};
  return experts;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    worst = std::max(worst, std::abs(a[i] - b[i]) / std::max(1.0, std::abs(a[i])));
  return worst;
}

TEST_CASE("loads of every distribution sum to the rows, and none exceeds the tokens") {
  for (const char* name : {"balanced", "uniform", "power_law_1.01", "power_law_1.2", "power_law_1"}) {
    for (const Routing& r : {Routing{1, 256, 8, 256}, Routing{4096, 8, 2, 4}, Routing{64, 512, 22, 8},
                             Routing{300, 16, 16, 2}, Routing{7, 4, 1, 1}}) {
      const auto loads = expert_loads(parse_load(name), r);
      INFO(name << " " << r.tokens << " tokens");
      CHECK(static_cast<std::int64_t>(loads.size()) == r.experts);
      CHECK(sum(loads) == r.tokens * r.topk);
      CHECK(*std::min_element(loads.begin(), loads.end()) >= 0);
      CHECK(*std::max_element(loads.begin(), loads.end()) <= r.tokens);
      CHECK(loads == expert_loads(parse_load(name), r));
    }
  }
}

TEST_CASE("balanced loads differ by one at most, once there are tokens enough") {
  const auto loads = expert_loads({}, {.tokens = 1000, .experts = 128, .topk = 8});
  const auto [least, most] = std::minmax_element(loads.begin(), loads.end());
  CHECK(*most - *least <= 8);  // one for each of a token's choices
  const auto one = expert_loads({}, {.tokens = 1, .experts = 256, .topk = 8});
  for (std::size_t e = 0; e < one.size(); ++e) CHECK(one[e] == (e % 32 == 0 ? 1 : 0));
}

TEST_CASE("a power law is skewed, the more the larger its exponent; node 0 has the most rows") {
  const Routing r{.tokens = 4096, .experts = 128, .topk = 8, .nodes = 16};
  const auto share_of_best = [&](const char* name) {
    auto loads = expert_loads(parse_load(name), r);
    const std::int64_t first = std::accumulate(loads.begin(), loads.begin() + 8, std::int64_t{0});
    for (int node = 1; node < 16; ++node)
      CHECK(std::accumulate(loads.begin() + 8 * node, loads.begin() + 8 * node + 8, std::int64_t{0}) <=
            first);
    std::sort(loads.begin(), loads.end(), std::greater<>{});
    return static_cast<double>(std::accumulate(loads.begin(), loads.begin() + 13, std::int64_t{0})) /
           (4096 * 8);
  };
  const double flat = share_of_best("balanced"), mild = share_of_best("power_law_1.01"),
               steep = share_of_best("power_law_1.2");
  CHECK(flat < 0.11);
  CHECK(mild > 2 * flat);
  CHECK(steep > mild);
}

TEST_CASE("loads come from a recorded routing, and of a node's experts only") {
  const auto loads = count_rows({0, 2, 2, 3, 0, 2}, 5);
  CHECK(loads == std::vector<std::int32_t>{2, 0, 3, 1, 0});
  CHECK(*loads_of(loads, 2, 4) == std::vector<std::int32_t>{3, 1});
  CHECK_THROWS_WITH(count_rows({1, 5}, 5), ContainsSubstring("expert 5 of 5"));
  CHECK_THROWS_AS(loads_of(loads, 3, 6), std::invalid_argument);
  CHECK_THROWS_WITH(parse_load("zipf"), ContainsSubstring("balanced, uniform or power_law_"));
  CHECK_THROWS_AS(parse_load("power_law_x"), std::invalid_argument);
  CHECK_THROWS_AS(expert_loads({}, {.tokens = 4, .experts = 6, .topk = 2, .nodes = 4}),
                  std::invalid_argument);
}

TEST_CASE("FLOPs and bytes of a mixture are those of its rows and of the experts with rows") {
  Moe m{.tokens = 3,
        .hidden = 5,
        .intermediate = 7,
        .experts = 4,
        .all_experts = 8,
        .topk = 2,
        .loads = loads_of({2, 0, 1, 0}, 0, 4)};
  CHECK(m.rows() == 3);
  CHECK(m.active_experts() == 2);
  CHECK(flops_of(m) == 3.0 * (6 * 5 * 7 + 6 * 7 + 2 * 5));
  CHECK(min_bytes_of(m) == 2 * (3 * 5 + 2 * 3 * 5 * 7 + 3 * 5) + 3 * 2 * 8);
  check(m);
  m.gated = false;
  CHECK(flops_of(m) == 3.0 * (4 * 5 * 7 + 2 * 7 + 2 * 5));
  CHECK(operands_of(m)[2].bytes == 2 * 2 * 2 * 5 * 7);
  m.gated = true;
  const std::string before = signature_of(m);
  m.loads = loads_of({1, 0, 2, 0}, 0, 4);
  CHECK(signature_of(m) != before);
  m.loads = loads_of({4, 0, 0, 0}, 0, 4);
  CHECK_THROWS_WITH(check(m), ContainsSubstring("4 rows of 3 tokens"));
  m.loads = nullptr;
  CHECK_THROWS_WITH(check(m), ContainsSubstring("0 loads for 4 experts"));
  CHECK_THROWS_WITH(check(Router{.tokens = 1, .experts = 4, .topk = 5}),
                    ContainsSubstring("must not exceed"));
}

TEST_CASE("the router: softmax, sigmoid, bias, groups, scale") {
  // softmax of (ln 1, ln 2, ln 3, ln 4) is (0.1, 0.2, 0.3, 0.4).
  const std::vector<double> logits{std::log(1), std::log(2), std::log(3), std::log(4)};
  ref::RouterRule rule{.topk = 2, .renormalise = false};
  ref::Choices c = ref::route(rule, logits, 4);
  CHECK(c.experts == std::vector<std::int32_t>{3, 2});
  CHECK(std::abs(c.weights[0] - 0.4) < 1e-15);
  CHECK(std::abs(c.weights[1] - 0.3) < 1e-15);

  // The bias selects, but does not weigh; weights sum to the scale.
  rule = {.topk = 2, .bias = {1, 0, 0, 0}, .scale = 2.5};
  c = ref::route(rule, logits, 4);
  CHECK(c.experts == std::vector<std::int32_t>{0, 3});
  CHECK(std::abs(c.weights[0] - 2.5 * 0.1 / 0.5) < 1e-15);
  CHECK(std::abs(c.weights[0] + c.weights[1] - 2.5) < 1e-15);

  rule = {.topk = 1, .score = RouterScore::sigmoid, .renormalise = false};
  CHECK(std::abs(ref::route(rule, {0, -1}, 2).weights[0] - 0.5) < 1e-15);

  // Groups {0.9, 0.0}, {0.5, 0.5}: by their best the first is kept, by the sum of two the second.
  const std::vector<double> scores{std::log(9), -30, std::log(1), std::log(1)};
  rule = {.topk = 1, .score = RouterScore::sigmoid, .groups = 2, .kept_groups = 1, .two_best = false};
  CHECK(ref::route(rule, scores, 4).experts[0] == 0);
  rule.two_best = true;
  CHECK(ref::route(rule, scores, 4).experts[0] == 2);
  rule.topk = 3;
  CHECK_THROWS_AS(ref::route(rule, scores, 4), std::invalid_argument);
}

TEST_CASE("a mixture spread over nodes equals the whole, empty experts and nodes included") {
  std::mt19937_64 random{5};
  const auto pick = [&](int least, int most) {
    return std::uniform_int_distribution<int>{least, most}(random);
  };
  for (int round = 0; round < 40; ++round) {
    const std::int64_t hidden = pick(1, 9), width = pick(1, 11), experts = pick(1, 12),
                       tokens = round % 5 == 0 ? 1 : pick(1, 20);
    const std::int64_t topk = round % 4 == 0 ? experts : pick(1, static_cast<int>(experts));
    const auto routed = random_experts(static_cast<std::size_t>(experts), hidden, width, random);
    const auto shared = random_experts(static_cast<std::size_t>(pick(0, 2)), hidden, width, random);
    const auto x = random_values(static_cast<std::size_t>(tokens * hidden), random);
    ref::RouterRule rule{.topk = topk, .scale = 2.446};
    if (round % 2 == 0) rule.score = RouterScore::sigmoid;
    if (round % 3 == 0) rule.bias = random_values(static_cast<std::size_t>(experts), random);
    const ref::Choices choices =
        ref::route(rule, random_values(static_cast<std::size_t>(tokens * experts), random), experts);

    const auto nodes = static_cast<std::size_t>(pick(1, 5));
    std::vector<std::vector<std::int32_t>> tokens_of(nodes);
    for (std::int32_t t = 0; t < tokens; ++t)
      tokens_of[static_cast<std::size_t>(pick(0, static_cast<int>(nodes) - 1))].push_back(t);
    std::vector<std::int64_t> first(nodes + 1, experts);
    first[0] = 0;
    for (std::size_t n = 1; n < nodes; ++n) first[n] = pick(0, static_cast<int>(experts));
    std::sort(first.begin(), first.end());
    const auto whole = ref::mixture(routed, shared, choices, topk, x, hidden);
    CHECK(largest_difference(whole, ref::mixture_on_nodes(routed, shared, choices, topk, x, hidden, tokens_of,
                                                          first)) < 1e-12);
  }
}

TEST_CASE("tensor-parallel slices of an expert sum to it") {
  std::mt19937_64 random{6};
  const std::int64_t hidden = 6, width = 10;
  const ref::Expert e = random_experts(1, hidden, width, random)[0];
  const auto x = random_values(3 * 6, random);
  auto total = ref::expert(ref::slice(e, hidden, 0, 3), x, hidden);
  const auto rest = ref::expert(ref::slice(e, hidden, 3, width), x, hidden);
  for (std::size_t i = 0; i < total.size(); ++i) total[i] += rest[i];
  CHECK(largest_difference(ref::expert(e, x, hidden), total) < 1e-12);
}

TEST_CASE("SwiGLU of one expert by hand") {
  const ref::Expert e{{2}, {3}, {5}};
  const double silu = 2 / (1 + std::exp(-2.0));
  CHECK(std::abs(ref::expert(e, {1}, 1)[0] - 5 * silu * 3) < 1e-14);
}

}  // namespace
}  // namespace tessera::models
