// KDA by segments over AttnNodes.

#include <algorithm>
#include <catch2/catch_test_macros.hpp>

#include "models/dataflow/build.hpp"
#include "tests/models/random_case.hpp"
#include "tests/models/task_graphs.hpp"

namespace tessera::models {
namespace {

using namespace testing;

Case segments_case(std::mt19937_64& random) {
  Case c = random_case(random, 30, 2, Kinds::all);
  c.model.causal = c.model.language_head = true;
  c.workload.recurrence = RecurrencePlacement::segments;
  for (Layer& l : c.model.layers) {
    if (std::holds_alternative<KdaShape>(l.attention)) return c;
  }
  c.model.layers.front().attention =
      KdaShape{.heads = 3, .k_dim = 16, .v_dim = 16, .taps = 4, .decay_rank = 8, .gate_rank = 8};
  return c;
}

TEST_CASE(
    "segments: every token once, the rows and maps that cross in closed form, decoding on the last node") {
  std::mt19937_64 random{103};
  for (int i = 0; i < 120; ++i) {
    const Case c = segments_case(random);
    const Workload& w = c.workload;
    const auto alpha = static_cast<std::uint32_t>(c.sharding.r.sets.size());
    const auto beta = static_cast<std::int64_t>(c.sharding.s.sets.size()), nodes = beta * beta;
    const TaskGraph g = build_cascade(c.model, c.sharding, w);
    totals_of(g);
    require_operands_fit(g);
    INFO("case " << i << ": " << w.prefill_tokens << " tokens over " << nodes << " nodes");
    std::vector<std::int64_t> lengths, starts;  // of segments that have tokens
    for (std::int64_t a = 0; a < nodes; ++a) {
      const std::int64_t first = w.prefill_tokens * a / nodes, last = w.prefill_tokens * (a + 1) / nodes;
      if (last == first) continue;
      lengths.push_back(last - first);
      starts.push_back(first);
    }
    const auto segments = static_cast<std::int64_t>(lengths.size());
    for (std::int32_t l = 0; l < c.model.layer_count(); ++l) {
      const auto* k = std::get_if<KdaShape>(&c.model.layers[static_cast<std::size_t>(l)].attention);
      if (k == nullptr) continue;
      std::int64_t past = 0;
      for (const std::int64_t start : starts) past += std::min(start, k->taps - 1);
      std::map<Stage, std::int64_t> bytes;
      std::vector<std::int64_t> mapped, rest, scanned;
      for (const Task& t : g.tasks) {
        if (t.layer != l) continue;
        if (const Transfer* message = transfer_of(t)) {
          if (t.step < 0) bytes[t.stage] += message->bytes;
        } else if (const auto* op = operator_of<LinearAttention>(t)) {
          REQUIRE(op->heads == k->heads);
          REQUIRE(op->part != SegmentPart::none);
          if (op->part == SegmentPart::rest) REQUIRE(op->initial_state == !rest.empty());
          (op->part == SegmentPart::map ? mapped : rest).push_back(op->seq);
        } else if (const auto* scan = operator_of<StateScan>(t)) {
          scanned.push_back(scan->maps);
        } else if (operator_of<LinearDecode>(t) != nullptr) {
          REQUIRE(t.node == alpha + nodes - 1);
        }
      }
      const std::int64_t row = k->heads * (2 * k->k_dim + k->v_dim);
      REQUIRE(bytes[Stage::send] ==
              2 * w.batch * (w.prefill_tokens * (row + k->heads * (k->k_dim + 1)) + past * row));
      REQUIRE(bytes[Stage::scan] ==
              segments * (segments - 1) / 2 * w.batch * k->heads * k->k_dim * (k->k_dim + k->v_dim) * 4);
      REQUIRE(bytes[Stage::returns] == 2 * w.batch * w.prefill_tokens * k->heads * k->v_dim);
      REQUIRE(mapped == lengths);
      REQUIRE(rest == lengths);
      REQUIRE(scanned.size() + 1 == lengths.size());
      for (std::size_t s = 0; s < scanned.size(); ++s)
        REQUIRE(scanned[s] == static_cast<std::int64_t>(s) + 1);
      // States are kept once, where tokens are decoded.
      REQUIRE(bytes_named(g, l, NodeKind::attn, {"state", "convolution state"}) ==
              w.batch * state_bytes_per_sequence(*k, c.model.dtype));
    }
  }
}

TEST_CASE("a segment goes on only when all maps before it are there") {
  std::mt19937_64 random{107};
  int rests = 0;
  for (int i = 0; i < 25; ++i) {
    Case c = segments_case(random);
    if (i % 2 == 1 && c.workload.prefill_tokens > 1) c.workload.cached_tokens = c.workload.prefill_tokens / 2;
    const TaskGraph g = build_cascade(c.model, c.sharding, c.workload);
    const auto before = ancestors_of(g);
    for (TaskId id = 0; id < g.tasks.size(); ++id) {
      const auto* op = operator_of<LinearAttention>(g.tasks[id]);
      if (op == nullptr || op->part != SegmentPart::rest) continue;
      ++rests;
      for (TaskId other = 0; other < g.tasks.size(); ++other) {
        const auto* map = operator_of<LinearAttention>(g.tasks[other]);
        if (map == nullptr || map->part != SegmentPart::map || g.tasks[other].layer != g.tasks[id].layer)
          continue;
        if (g.tasks[other].node <= g.tasks[id].node) REQUIRE(before[id][other]);
      }
      if (c.workload.cached_tokens > 0) REQUIRE(op->initial_state);
    }
  }
  CHECK(rests > 25);
}

}  // namespace
}  // namespace tessera::models
