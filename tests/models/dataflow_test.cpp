#include <catch2/catch_test_macros.hpp>
#include <map>
#include <random>
#include <stdexcept>

#include "models/dataflow/build.hpp"
#include "tests/models/random_sharding.hpp"

namespace tessera::models {
namespace {

Architecture small_model(std::int64_t layers = 2) {
  Architecture m;
  m.name = "small";
  m.layers = layers;
  m.hidden = 64;
  m.heads = 4;
  m.kv_heads = 2;
  m.head_dim = 16;
  m.intermediate = 128;
  m.vocab = 100;
  m.max_positions = 1 << 20;
  return m;
}

struct Totals {
  double attention_flops = 0;
  std::map<Stage, std::int64_t> sent;
  std::map<Stage, int> messages;
};
Totals totals_of(const TaskGraph& g) {
  Totals t;
  for (TaskId id = 0; id < g.tasks.size(); ++id) {
    const Task& task = g.tasks[id];
    for (const TaskId before : task.after) {
      REQUIRE(before < id);
      const auto* transfer = std::get_if<Transfer>(&g.tasks[before].work);
      const std::uint32_t arrives = transfer != nullptr ? transfer->destination : g.tasks[before].node;
      REQUIRE((arrives == task.node || g.tasks[before].node == task.node));
    }
    if (const auto* transfer = std::get_if<Transfer>(&task.work)) {
      REQUIRE(transfer->destination != task.node);
      REQUIRE(transfer->bytes > 0);
      t.sent[task.stage] += transfer->bytes;
      ++t.messages[task.stage];
    } else {
      const auto& compute = std::get<Compute>(task.work);
      check(compute.op);
      REQUIRE(compute.operands.size() == operands_of(compute.op).size());
      for (const BufferId b : compute.operands) REQUIRE(g.buffers[b].node == task.node);
      if (task.stage == Stage::attention) t.attention_flops += flops_of(compute.op);
    }
  }
  return t;
}

TEST_CASE("prefill moves the closed-form volume when every pair of sets is visible") {
  Architecture m = small_model(1);
  m.causal = false;
  m.language_head = false;
  const std::int64_t tokens = 48;
  for (const int alpha : {1, 2, 5}) {
    for (const int beta : {1, 2, 3}) {
      const TaskGraph g = build_cascade(m, {round_robin(tokens, alpha, 2), round_robin(tokens, beta, 1)},
                                        {.prefill_tokens = tokens});
      const Totals t = totals_of(g);
      // OPERATORS.md: T beta (2 H d + 2 Hkv d) bytes-per-element, and max and expsum in fp32 with the
      // partials.
      CHECK(t.sent.at(Stage::send) + t.sent.at(Stage::returns) ==
            tokens * beta * (2 * m.heads * m.head_dim + 2 * m.kv_heads * m.head_dim) * 2 +
                tokens * beta * m.heads * 8);
      CHECK(g.nodes.size() == static_cast<std::size_t>(alpha + beta * beta));
      CHECK(t.messages.at(Stage::send) <= alpha * beta * beta);
    }
  }
}

TEST_CASE("shards compute exactly the unsharded attention FLOPs, prefill and decode") {
  std::mt19937_64 random{5};
  for (int i = 0; i < 100; ++i) {
    const Architecture m = small_model();
    const Workload w{.prefill_tokens = 1 + i % 40, .decode_steps = i % 5, .batch = 1 + i % 2};
    const std::int64_t tokens = w.prefill_tokens + w.decode_steps;
    const Sharding s{testing::random_partition(tokens, 1 + i % 8, random),
                     testing::random_partition(tokens, 1 + i % 4, random)};
    const Totals sharded = totals_of(build_cascade(m, s, w)), whole = totals_of(build_single(m, w));
    INFO("case " << i);
    CHECK(sharded.attention_flops == whole.attention_flops);
  }
}

TEST_CASE("a node that nobody needs gets no work, and one set means no merge") {
  const Architecture m = small_model();
  const TaskGraph g = build_cascade(m, {contiguous(8, 1), contiguous(8, 1)}, {.prefill_tokens = 8});
  for (const Task& t : g.tasks) CHECK(t.stage != Stage::merge);
  // Contiguous S, causal: AttnNode (0, 1) would see only the future.
  const TaskGraph h = build_cascade(m, {contiguous(8, 2), contiguous(8, 2)}, {.prefill_tokens = 8});
  for (const Task& t : h.tasks) {
    if (t.stage == Stage::attention) CHECK(h.nodes[t.node].name != "attn0,1");
  }
}

TEST_CASE("impossible workloads are refused") {
  const Architecture m = small_model();
  CHECK_THROWS_AS(build_single(m, {.prefill_tokens = 0}), std::invalid_argument);
  CHECK_THROWS_AS(build_cascade(m, {contiguous(8, 2), contiguous(8, 2)}, {.prefill_tokens = 9}),
                  std::invalid_argument);
  Architecture encoder = m;
  encoder.causal = false;
  CHECK_THROWS_AS(build_single(encoder, {.prefill_tokens = 4, .decode_steps = 1}), std::invalid_argument);
}

}  // namespace
}  // namespace tessera::models
