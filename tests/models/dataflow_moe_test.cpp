#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <numeric>
#include <random>

#include "models/dataflow/build.hpp"
#include "models/dataflow/expert_spread.hpp"
#include "tests/models/random_sharding.hpp"
#include "tests/models/task_graphs.hpp"

namespace tessera::models {
namespace {

using namespace testing;

constexpr std::int64_t kHidden = 64;

Architecture model_of(const MoeShape& shape, std::size_t layers = 2) {
  Architecture m;
  m.name = "small";
  m.layers.assign(layers, {DenseShape{.heads = 4, .kv_heads = 2, .head_dim = 16}, shape});
  m.layers[0].feed_forward = MlpShape{.width = 128};
  m.hidden = kHidden;
  m.vocab = 100;
  m.max_positions = 1 << 20;
  return m;
}

/// Choices of `tokens` rows, drawn one by one or as balanced routing says.
std::vector<std::vector<std::int64_t>> choices_of(LoadKind kind, std::int64_t tokens, std::int64_t experts,
                                                  std::int64_t topk, std::mt19937_64& random) {
  std::vector<std::vector<std::int64_t>> all;
  const std::int64_t stride = (experts + topk - 1) / topk;
  for (std::int64_t t = 0; t < tokens; ++t) {
    std::vector<std::int64_t> deck(static_cast<std::size_t>(experts));
    std::iota(deck.begin(), deck.end(), std::int64_t{0});
    std::shuffle(deck.begin(), deck.end(), random);
    if (kind == LoadKind::balanced) {
      for (std::int64_t i = 0; i < topk; ++i) deck[static_cast<std::size_t>(i)] = (t + i * stride) % experts;
    }
    deck.resize(static_cast<std::size_t>(topk));
    all.push_back(std::move(deck));
  }
  return all;
}

TEST_CASE("rows that reach a node's experts are those of a routing row by row") {
  std::mt19937_64 random{3};
  for (const LoadKind kind : {LoadKind::balanced, LoadKind::uniform}) {
    for (const auto& [experts, topk] : {std::pair{64, 8}, {64, 4}, {256, 8}, {8, 1}, {6, 2}}) {
      const std::int64_t tokens = 4096;
      const auto choices = choices_of(kind, tokens, experts, topk, random);
      std::vector<std::int32_t> loads(static_cast<std::size_t>(experts));
      for (const auto& row : choices) {
        for (const std::int64_t e : row) ++loads[static_cast<std::size_t>(e)];
      }
      for (const std::size_t nodes : {1, 2, 4, 8}) {
        if (experts % static_cast<int>(nodes) != 0) continue;
        for (std::size_t n = 0; n < nodes; ++n) {
          const ExpertRange range = experts_of(experts, nodes, n);
          const auto reaching = std::count_if(choices.begin(), choices.end(), [&](const auto& row) {
            return std::any_of(row.begin(), row.end(),
                               [&](std::int64_t e) { return e >= range.first && e < range.last; });
          });
          const std::int64_t said = rows_reaching(
              {.kind = kind}, {.tokens = tokens, .experts = experts, .topk = topk}, loads, range);
          INFO(experts << " experts, top " << topk << ", node " << n << " of " << nodes);
          if (kind == LoadKind::balanced)
            CHECK(said == reaching);
          else  // five standard deviations of tokens drawn one by one
            CHECK(said == Catch::Approx(static_cast<double>(reaching)).margin(2.5 * 64 + 1));
        }
      }
    }
  }
}

TEST_CASE("traffic: every row reaches a node at least and its experts' loads are all worked on") {
  std::mt19937_64 random{7};
  const auto pick = [&](std::int64_t least, std::int64_t most) {
    return std::uniform_int_distribution<std::int64_t>{least, most}(random);
  };
  for (int i = 0; i < 300; ++i) {
    const std::int64_t experts = pick(1, 40), topk = pick(1, std::min<std::int64_t>(experts, 9));
    std::vector<std::int64_t> rows(static_cast<std::size_t>(pick(1, 6)));
    for (std::int64_t& r : rows) r = pick(0, 3) == 0 ? 0 : pick(1, 50);
    const LoadDistribution distribution{.kind = static_cast<LoadKind>(pick(0, 2)), .exponent = 1.2};
    const ExpertTraffic t = expert_traffic(distribution, experts, topk, rows);
    std::int64_t worked = 0;
    for (std::size_t n = 0; n < rows.size(); ++n) {
      const ExpertRange held = experts_of(experts, rows.size(), n);
      REQUIRE((t.loads[n] != nullptr) == (held.size() > 0));
      if (!t.loads[n]) {
        REQUIRE(t.received(n) == 0);
        continue;
      }
      const std::int64_t load = std::accumulate(t.loads[n]->begin(), t.loads[n]->end(), std::int64_t{0});
      worked += load;
      REQUIRE(static_cast<std::int64_t>(t.loads[n]->size()) == held.size());
      REQUIRE((t.received(n) > 0) == (load > 0));
      REQUIRE(t.received(n) <= load);
      REQUIRE(*std::max_element(t.loads[n]->begin(), t.loads[n]->end()) <= t.received(n));
    }
    REQUIRE(worked == topk * std::accumulate(rows.begin(), rows.end(), std::int64_t{0}));
    for (std::size_t from = 0; from < rows.size(); ++from) {
      REQUIRE(t.parts(from) >= rows[from]);
      for (const std::int64_t r : t.rows[from]) REQUIRE(r <= rows[from]);
    }
  }
}

struct Case {
  Architecture model;
  Workload workload;
  Sharding sharding;
};
Case random_case(std::mt19937_64& random) {
  const auto pick = [&](int least, int most) {
    return std::uniform_int_distribution<int>{least, most}(random);
  };
  MoeShape shape{.experts = pick(1, 12), .width = 16 * pick(1, 3), .shared = pick(0, 2)};
  shape.topk = pick(1, static_cast<int>(std::min<std::int64_t>(shape.experts, 4)));
  Case c{.model = model_of(shape, static_cast<std::size_t>(pick(2, 3)))};
  c.workload = {.prefill_tokens = pick(1, 24),
                .decode_steps = pick(0, 3),
                .batch = pick(1, 3),
                .experts = pick(0, 1) == 1 ? ExpertPlacement::spread : ExpertPlacement::local,
                .expert_load = {.kind = static_cast<LoadKind>(pick(0, 2)), .exponent = 1.2}};
  const std::int64_t tokens = c.workload.prefill_tokens + c.workload.decode_steps;
  c.sharding = {random_partition(tokens, pick(1, 5), random), random_partition(tokens, pick(1, 3), random)};
  return c;
}

double expert_flops(const TaskGraph& g) {
  double flops = 0;
  for (const Task& task : g.tasks) {
    if (const auto* moe = operator_of<Moe>(task)) flops += flops_of(*moe);
  }
  return flops;
}

TEST_CASE(
    "experts, local or spread: as much work as on one GPU, operands on their node and in their buffers") {
  std::mt19937_64 random{13};
  for (int i = 0; i < 100; ++i) {
    const Case c = random_case(random);
    INFO("case " << i);
    const TaskGraph sharded = build_cascade(c.model, c.sharding, c.workload),
                    whole = build_single(c.model, c.workload);
    for (const TaskGraph& g : {sharded, whole}) {
      totals_of(g);
      require_operands_fit(g);
    }
    CHECK(expert_flops(sharded) == Catch::Approx(expert_flops(whole)).epsilon(1e-12));
    if (c.workload.experts == ExpertPlacement::local) {
      const Totals t = totals_of(sharded);
      CHECK(t.sent.count(Stage::dispatch) == 0);
      CHECK(t.sent.count(Stage::combine) == 0);
    }
  }
}

TEST_CASE("dispatch and combine follow the closed form") {
  // As many choices as nodes at least, evenly apart: every row goes to every other node, and comes back.
  const std::int64_t tokens = 64;
  for (const int alpha : {2, 4}) {
    for (const std::int64_t shared : {0, 1}) {
      const MoeShape shape{.experts = 16, .topk = 4, .width = 32, .shared = shared};
      const Workload w{.prefill_tokens = tokens, .batch = 2, .experts = ExpertPlacement::spread};
      const TaskGraph g =
          build_cascade(model_of(shape, 3), {contiguous(tokens, alpha), contiguous(tokens, 1)}, w);
      const Totals t = totals_of(g);
      const std::int64_t rows = 2 * 2 * tokens * (alpha - 1);  // two layers, two sequences
      CHECK(t.sent.at(Stage::dispatch) == rows * (kHidden * 2 + shape.topk * 8));
      CHECK(t.sent.at(Stage::combine) == rows * kHidden * 2);
      CHECK(t.messages.at(Stage::dispatch) == 2 * alpha * (alpha - 1));
      for (const Task& task : g.tasks) {
        if (const auto* moe = operator_of<Moe>(task)) {
          CHECK(moe->experts == shape.experts / alpha);
          CHECK(moe->tokens == 2 * tokens);
          CHECK(moe->rows() == 2 * tokens * shape.topk / alpha);
        }
        if (const auto* sum = operator_of<Sum>(task)) CHECK(sum->inputs == sum->rows * (alpha + shared));
      }
    }
  }
}

TEST_CASE("experts wait for every row that is sent to them, and a row's owner for all its results") {
  std::mt19937_64 random{17};
  for (int i = 0; i < 60; ++i) {
    Case c = random_case(random);
    c.workload.experts = ExpertPlacement::spread;
    const TaskGraph g = build_cascade(c.model, c.sharding, c.workload);
    const auto before = ancestors_of(g);
    INFO("case " << i);
    for (TaskId id = 0; id < g.tasks.size(); ++id) {
      const Task& task = g.tasks[id];
      const bool works = operator_of<Moe>(task) != nullptr, adds = operator_of<Sum>(task) != nullptr;
      if (!works && !adds) continue;
      std::int64_t bytes = 0;
      for (TaskId other = 0; other < g.tasks.size(); ++other) {
        const Task& o = g.tasks[other];
        const Transfer* message = transfer_of(o);
        if (o.layer != task.layer || o.step != task.step || message == nullptr ||
            message->destination != task.node || o.stage != (works ? Stage::dispatch : Stage::combine))
          continue;
        REQUIRE(before[id][other]);
        bytes += message->bytes;
      }
      if (works) {
        const Moe& moe = *operator_of<Moe>(task);
        REQUIRE(bytes <= moe.tokens * (kHidden * 2 + moe.topk * 8));
      } else {
        REQUIRE(bytes <= operator_of<Sum>(task)->inputs * kHidden * 2);
      }
    }
  }
}

TEST_CASE("a node holds all experts, or its share of them") {
  const MoeShape shape{.experts = 10, .topk = 2, .width = 32, .shared = 1};
  const Architecture m = model_of(shape, 3);
  const std::int64_t expert = 3 * kHidden * shape.width * 2;
  const auto held = [&](ExpertPlacement placement, std::uint32_t node) {
    const TaskGraph g = build_cascade(m, {contiguous(12, 4), contiguous(12, 1)},
                                      {.prefill_tokens = 12, .experts = placement});
    std::int64_t bytes = 0;
    for (const Buffer& b : g.buffers) {
      if (b.node == node && b.weight && b.name.starts_with("experts.")) bytes += b.bytes;
    }
    return bytes;
  };
  std::int64_t spread = 0;
  for (std::uint32_t n = 0; n < 4; ++n) {
    CHECK(held(ExpertPlacement::local, n) == 2 * shape.experts * expert);
    spread += held(ExpertPlacement::spread, n);
  }
  CHECK(spread == 2 * shape.experts * expert);
  CHECK(held(ExpertPlacement::spread, 0) == 2 * 2 * expert);
  CHECK(held(ExpertPlacement::spread, 3) == 2 * 3 * expert);

  // All weights of a node without sharding are the model's, but for the norms: one stands for all.
  std::int64_t weights = 0;
  for (const Buffer& b : build_single(m, {.prefill_tokens = 12}).buffers) weights += b.weight ? b.bytes : 0;
  CHECK(weights == 2 * (m.parameters() - 2 * m.layer_count() * kHidden));
}

TEST_CASE(
    "Kimi-Linear with its experts spread over four CompNodes fits 80 GB, with all on each it does not") {
  const Architecture kimi = read_architecture(std::filesystem::path{TESSERA_SOURCE_DIR} /
                                              "configs/models/kimi_linear_48b_a3b/config.json");
  const std::int64_t tokens = 4096;
  const auto largest_node = [&](ExpertPlacement placement) {
    const TaskGraph g = build_cascade(kimi, {contiguous(tokens, 4), contiguous(tokens, 2)},
                                      {.prefill_tokens = tokens, .experts = placement});
    std::vector<std::int64_t> bytes(g.nodes.size());
    for (const Buffer& b : g.buffers) bytes[b.node] += b.bytes;
    return *std::max_element(bytes.begin(), bytes.end());
  };
  const std::int64_t capacity = 80'000'000'000;
  CHECK(largest_node(ExpertPlacement::local) > capacity);
  CHECK(largest_node(ExpertPlacement::spread) < capacity);
}

}  // namespace
}  // namespace tessera::models
