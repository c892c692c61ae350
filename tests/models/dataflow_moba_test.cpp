#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <random>
#include <set>

#include "models/dataflow/build.hpp"
#include "tests/models/random_sharding.hpp"
#include "tests/models/task_graphs.hpp"

namespace tessera::models {
namespace {

using namespace testing;

struct Case {
  Architecture model;
  MobaShape shape;
  Workload workload;
  Sharding sharding;
};
/// A MoBA layer, then a dense one of the same shape.
Case random_case(std::mt19937_64& random) {
  const auto pick = [&](int least, int most) {
    return std::uniform_int_distribution<int>{least, most}(random);
  };
  const std::int64_t kv_heads = pick(1, 2);
  Case c;
  c.shape = {.dense = {.heads = kv_heads * pick(1, 2), .kv_heads = kv_heads, .head_dim = 8},
             .block = pick(1, 9),
             .topk = pick(1, 5)};
  c.model.name = "small";
  c.model.layers = {{c.shape, MlpShape{.width = 32}}, {c.shape.dense, MlpShape{.width = 32}}};
  c.model.hidden = 32;
  c.model.vocab = 1000;
  c.model.max_positions = 1 << 20;
  c.workload = {.prefill_tokens = pick(1, 40),
                .decode_steps = pick(0, 3),
                .batch = pick(1, 2),
                .selection = {.kind = static_cast<SelectionKind>(pick(0, 2))}};
  const std::int64_t tokens = c.workload.prefill_tokens + c.workload.decode_steps;
  c.sharding = {random_partition(tokens, pick(1, 5), random), random_partition(tokens, pick(1, 4), random)};
  return c;
}

double flops_in_prefill(const TaskGraph& g, std::initializer_list<Stage> stages) {
  double flops = 0;
  for (const Task& task : g.tasks) {
    const auto* compute = std::get_if<Compute>(&task.work);
    // The means of sums are no part of the operator's definition.
    if (compute == nullptr || task.layer != 0 || task.step >= 0 || operator_of<Sum>(task) != nullptr)
      continue;
    if (std::find(stages.begin(), stages.end(), task.stage) != stages.end()) flops += flops_of(compute->op);
  }
  return flops;
}

TEST_CASE("MoBA over AttnNodes: the unsharded FLOPs, operands on their node and in their buffers") {
  std::mt19937_64 random{23};
  for (int i = 0; i < 150; ++i) {
    const Case c = random_case(random);
    INFO("case " << i << ": " << c.workload.prefill_tokens << " tokens, block " << c.shape.block << ", top "
                 << c.shape.topk << ", beta " << c.sharding.beta());
    const TaskGraph sharded = build_cascade(c.model, c.sharding, c.workload),
                    whole = build_single(c.model, c.workload);
    for (const TaskGraph& g : {sharded, whole}) {
      totals_of(g);
      require_operands_fit(g);
    }
    CHECK(flops_in_prefill(sharded, {Stage::gate, Stage::attention}) ==
          Catch::Approx(flops_in_prefill(whole, {Stage::attention})).epsilon(1e-12));
  }
}

TEST_CASE("MoBA behind cached tokens: one GPU computes what shards compute, less than for the whole") {
  std::mt19937_64 random{31};
  for (int i = 0; i < 100; ++i) {
    Case c = random_case(random);
    if (c.workload.prefill_tokens < 2) continue;
    Workload all = c.workload;
    c.workload.cached_tokens =
        std::uniform_int_distribution<std::int64_t>{1, c.workload.prefill_tokens - 1}(random);
    INFO("case " << i << ": " << c.workload.cached_tokens << " of " << c.workload.prefill_tokens
                 << " tokens, block " << c.shape.block << ", top " << c.shape.topk);
    const TaskGraph sharded = build_cascade(c.model, c.sharding, c.workload),
                    whole = build_single(c.model, c.workload);
    totals_of(whole);
    require_operands_fit(whole);
    CHECK(flops_in_prefill(sharded, {Stage::gate, Stage::attention}) ==
          Catch::Approx(flops_in_prefill(whole, {Stage::gate, Stage::attention})).epsilon(1e-12));
    const double pairs = flops_in_prefill(whole, {Stage::attention}),
                 of_all = flops_in_prefill(build_single(c.model, all), {Stage::attention});
    CHECK(pairs < of_all);
  }
}

TEST_CASE(
    "a range of tokens attends in full: every row chooses blocks or sees all, on one GPU and over nodes") {
  std::mt19937_64 random{31};
  for (int i = 0; i < 100; ++i) {
    Case c = random_case(random);
    const std::int64_t tokens = c.workload.prefill_tokens;
    const auto from = std::uniform_int_distribution<std::int64_t>{0, tokens - 1}(random);
    const auto to = std::uniform_int_distribution<std::int64_t>{from + 1, tokens + 2}(random);
    c.shape.full = {from, to};
    c.model.layers[0].attention = c.shape;
    INFO("case " << i << ": " << tokens << " tokens, full from " << from << " to " << to);
    struct Sum {
      std::int64_t scored = 0;
      double full_flops = 0;
    };
    const auto sum_of = [](const TaskGraph& g) {
      Sum sum;
      for (const Task& task : g.tasks) {
        if (task.layer != 0 || task.step >= 0) continue;
        if (const auto* gate = operator_of<BlockGate>(task)) sum.scored += gate->q_rows;
        if (const auto* moba = operator_of<Moba>(task)) sum.scored += moba->seq;
        if (const auto* full = operator_of<Attention>(task)) sum.full_flops += flops_of(*full);
      }
      return sum;
    };
    const TaskGraph sharded = build_cascade(c.model, c.sharding, c.workload);
    totals_of(sharded);
    require_operands_fit(sharded);
    const std::int64_t full = std::min(to, tokens) - from;
    CHECK(sum_of(sharded).scored == tokens - full);
    // Rows from .. to see 1 .. of a causal triangle's keys.
    const double pairs = static_cast<double>(full * (from + 1 + std::min(to, tokens))) / 2;
    const DenseShape& d = c.shape.dense;
    const double flops = 4 * pairs * static_cast<double>(c.workload.batch * d.heads * d.head_dim);
    CHECK(sum_of(sharded).full_flops == Catch::Approx(flops));
    if (to < tokens) {
      CHECK_THROWS(build_single(c.model, c.workload));
      continue;
    }
    const TaskGraph whole = build_single(c.model, c.workload);
    totals_of(whole);
    require_operands_fit(whole);
    CHECK(sum_of(whole).scored == tokens - full);
    CHECK(sum_of(whole).full_flops == Catch::Approx(flops));
  }
}

TEST_CASE("MoBA's messages follow the closed forms, and every query row is scored once") {
  std::mt19937_64 random{29};
  for (int i = 0; i < 150; ++i) {
    const Case c = random_case(random);
    const TaskGraph g = build_cascade(c.model, c.sharding, c.workload);
    const auto prompt = first_tokens(c.sharding.s, c.workload.prefill_tokens).sets;
    const DenseShape& d = c.shape.dense;
    const std::int64_t batch = c.workload.batch, block = c.shape.block;
    std::int64_t expected = 0;
    for (std::size_t j = 0; j < prompt.size(); ++j) {
      for (std::size_t k = 0; k < prompt.size(); ++k) {
        if (j == k || prompt[j].empty() || prompt[k].empty() || prompt[j].back() < prompt[k].front())
          continue;
        // Choices of all rows, and the sums of the blocks that they may be about.
        expected += batch * static_cast<std::int64_t>(prompt[j].size()) * d.heads * c.shape.topk * 4;
        for (std::int64_t b = prompt[k].front() / block; b <= prompt[k].back() / block; ++b)
          expected += b < prompt[j].back() / block ? batch * d.kv_heads * (d.head_dim + 1) * 4 : 0;
      }
    }
    std::int64_t sent = 0, scored = 0;
    std::map<Stage, std::pair<std::int64_t, std::int64_t>> exchanged;  // MoBA layer, dense layer
    for (const Task& task : g.tasks) {
      if (task.step >= 0) {
        REQUIRE(task.stage != Stage::gate);  // decoding is dense
        continue;
      }
      if (const Transfer* message = transfer_of(task)) {
        if (task.stage == Stage::gate) {
          REQUIRE(task.layer == 0);
          sent += message->bytes;
        } else {
          auto& [moba, dense] = exchanged[task.stage];
          (task.layer == 0 ? moba : dense) += message->bytes;
        }
      }
      if (const auto* gate = operator_of<BlockGate>(task)) scored += gate->q_rows;
    }
    INFO("case " << i);
    CHECK(sent == expected);
    CHECK(scored == c.workload.prefill_tokens);
    for (const auto& [stage, bytes] : exchanged) CHECK(bytes.first == bytes.second);
  }
}

TEST_CASE("MoBA: scores wait for all block sums, attention for its choice and all its rows") {
  std::mt19937_64 random{31};
  for (int i = 0; i < 60; ++i) {
    const Case c = random_case(random);
    const TaskGraph g = build_cascade(c.model, c.sharding, c.workload);
    const auto before = ancestors_of(g);
    INFO("case " << i);
    for (TaskId id = 0; id < g.tasks.size(); ++id) {
      const Task& task = g.tasks[id];
      const bool gates = operator_of<BlockGate>(task) != nullptr,
                 attends = operator_of<BlockSparseAttention>(task) != nullptr;
      if (!gates && !attends) continue;
      for (TaskId other = 0; other < id; ++other) {
        const Task& o = g.tasks[other];
        if (o.layer != 0 || o.step >= 0) continue;
        const Transfer* message = transfer_of(o);
        const bool here = message != nullptr ? message->destination == task.node : o.node == task.node;
        if (here && (o.stage == Stage::send || operator_of<BlockGate>(o) != nullptr ||
                     (o.stage == Stage::gate && message != nullptr)))
          REQUIRE((before[id][other] || (gates && operator_of<BlockGate>(o) != nullptr)));
      }
      // Of every other column that the row sees past blocks of, sums came first: its pooling is an ancestor.
      if (!gates) continue;
      const auto& q = *operator_of<BlockGate>(task)->q_positions;
      for (TaskId other = 0; other < g.tasks.size(); ++other) {
        const auto* pool = operator_of<BlockPool>(g.tasks[other]);
        if (pool != nullptr && pool->kv_positions->front() / c.shape.block < q.back() / c.shape.block)
          REQUIRE(before[id][other]);
      }
    }
  }
}

TEST_CASE("MoBA decodes as a dense layer does, from the same caches") {
  std::mt19937_64 random{37};
  for (int i = 0; i < 40; ++i) {
    Case c = random_case(random);
    Case dense = c;
    dense.model.layers[0].attention = c.shape.dense;
    for (const auto& [moba, plain] :
         {std::pair{build_cascade(c.model, c.sharding, c.workload),
                    build_cascade(dense.model, c.sharding, c.workload)},
          {build_single(c.model, c.workload), build_single(dense.model, c.workload)}}) {
      const auto steps = [](const TaskGraph& g) {
        std::vector<std::string> texts;
        for (const Task& t : g.tasks) {
          if (t.step < 0) continue;
          const Transfer* message = transfer_of(t);
          texts.push_back(message != nullptr ? std::to_string(message->bytes)
                                             : signature_of(std::get<Compute>(t.work).op));
        }
        return texts;
      };
      REQUIRE(steps(moba) == steps(plain));
      const auto caches = [](const TaskGraph& g) {
        std::int64_t bytes = 0;
        for (const Buffer& b : g.buffers) bytes += b.name.starts_with("k, v cache") ? b.bytes : 0;
        return bytes;
      };
      REQUIRE(caches(moba) == caches(plain));
    }
  }
}

}  // namespace
}  // namespace tessera::models
