#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <map>
#include <random>
#include <stdexcept>

#include "models/dataflow/build.hpp"
#include "tests/models/random_case.hpp"
#include "tests/models/task_graphs.hpp"

namespace tessera::models {
namespace {

using namespace testing;

const DenseShape& dense_of(const Architecture& m, std::size_t layer = 0) {
  return std::get<DenseShape>(m.layers[layer].attention);
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
            tokens * beta * (2 * dense_of(m).q_width() + 2 * dense_of(m).kv_width()) * 2 +
                tokens * beta * dense_of(m).heads * 8);
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

TEST_CASE("prefill: an AttnNode waits for exactly its rows, a CompNode merges exactly the visible parts") {
  std::mt19937_64 random{41};
  for (int i = 0; i < 150; ++i) {
    const Case c = random_case(random, 24, 0);
    const Architecture& m = c.model;
    const auto& r = c.sharding.r.sets;
    const auto& s = c.sharding.s.sets;
    const TaskGraph g = build_cascade(m, c.sharding, c.workload);
    totals_of(g);
    const auto before = ancestors_of(g);
    INFO("case " << i << ": " << c.workload.prefill_tokens << " tokens, alpha " << r.size() << ", beta "
                 << s.size());
    // By definition: whether any row of S_j sees any of S_k.
    const auto visible = [&](std::size_t j, std::size_t k) {
      for (const std::int32_t q : s[j]) {
        for (const std::int32_t kv : s[k]) {
          if (!m.causal || kv <= q) return true;
        }
      }
      return false;
    };
    for (std::int32_t l = 0; l < m.layer_count(); ++l) {
      const DenseShape& d = dense_of(m, static_cast<std::size_t>(l));
      const std::int64_t q_bytes = d.q_width() * 2 * c.workload.batch,
                         kv_bytes = 2 * d.kv_width() * 2 * c.workload.batch,
                         part_bytes = q_bytes + d.heads * 8 * c.workload.batch;
      // AttnNodes: at most one kernel, and before it q and k, v of every row.
      for (std::size_t j = 0; j < s.size(); ++j) {
        for (std::size_t k = 0; k < s.size(); ++k) {
          const auto node = static_cast<std::uint32_t>(r.size() + j * s.size() + k);
          std::int64_t expected = static_cast<std::int64_t>(s[k].size()) * kv_bytes;
          if (!s[k].empty()) expected += static_cast<std::int64_t>(s[j].size()) * q_bytes;
          std::int64_t sent = 0;
          int kernels = 0;
          for (const Task& task : g.tasks) {
            if (task.stage == Stage::send && task.layer == l && transfer_of(task)->destination == node)
              sent += transfer_of(task)->bytes;
          }
          REQUIRE(sent == expected);
          for (TaskId id = 0; id < g.tasks.size(); ++id) {
            if (g.tasks[id].node != node || g.tasks[id].layer != l || g.tasks[id].stage != Stage::attention)
              continue;
            ++kernels;
            std::int64_t bytes = 0;
            std::map<std::uint32_t, int> senders;
            for (const TaskId a : g.tasks[id].after) {
              const Transfer* message = transfer_of(g.tasks[a]);
              if (message == nullptr || message->destination != node) continue;
              REQUIRE(g.tasks[a].layer == l);
              REQUIRE(++senders[g.tasks[a].node] == 1);
              bytes += message->bytes;
            }
            REQUIRE(bytes == expected);
          }
          REQUIRE(kernels == (visible(j, k) ? 1 : 0));
        }
      }
      // CompNodes: what comes back, what is merged, and that the O-projection waits for both.
      for (std::uint32_t node = 0; node < r.size(); ++node) {
        std::map<std::int64_t, std::int64_t> expected, merged;  // parts -> rows
        std::int64_t expected_bytes = 0, bytes = 0;
        for (const std::int32_t t : r[node]) {
          const auto j = static_cast<std::size_t>(owners(c.sharding.s)[static_cast<std::size_t>(t)]);
          std::int64_t parts = 0;
          for (std::size_t k = 0; k < s.size(); ++k) parts += visible(j, k) ? 1 : 0;
          if (parts > 1) expected[parts] += c.workload.batch;
          expected_bytes += parts * part_bytes;
        }
        int projections = 0;
        for (TaskId id = 0; id < g.tasks.size(); ++id) {
          const Task& task = g.tasks[id];
          if (task.layer != l) continue;
          if (task.stage == Stage::returns && transfer_of(task)->destination == node)
            bytes += transfer_of(task)->bytes;
          if (task.node != node) continue;
          if (task.stage == Stage::merge) {
            const auto& merge = std::get<Merge>(std::get<Compute>(task.work).op);
            merged[merge.parts] += merge.rows;
          }
          if (task.stage != Stage::o_proj) continue;
          ++projections;
          for (TaskId other = 0; other < g.tasks.size(); ++other) {
            const Task& o = g.tasks[other];
            if (o.layer != l) continue;
            const bool needed = o.stage == Stage::merge
                                    ? o.node == node
                                    : o.stage == Stage::returns && transfer_of(o)->destination == node;
            if (needed) REQUIRE(before[id][other]);
            if (needed && o.stage == Stage::merge) {
              for (TaskId back = 0; back < g.tasks.size(); ++back) {
                const Task& b = g.tasks[back];
                if (b.layer == l && b.stage == Stage::returns && transfer_of(b)->destination == node)
                  REQUIRE(before[other][back]);
              }
            }
          }
        }
        REQUIRE(projections == (r[node].empty() ? 0 : 1));
        REQUIRE(merged == expected);
        REQUIRE(bytes == expected_bytes);
      }
    }
  }
}

TEST_CASE("decode: volume, contexts, waiting for cached rows, and steps in turn") {
  std::mt19937_64 random{43};
  for (int i = 0; i < 100; ++i) {
    Case c = random_case(random, 12, 5);
    if (!c.model.causal || c.workload.decode_steps == 0) continue;
    const Architecture& m = c.model;
    const std::int64_t batch = c.workload.batch;
    const auto beta = static_cast<std::int64_t>(c.sharding.s.sets.size());
    const auto alpha = static_cast<std::uint32_t>(c.sharding.r.sets.size());
    const std::vector<std::int32_t> r_owner = owners(c.sharding.r), s_owner = owners(c.sharding.s);
    const TaskGraph g = build_cascade(m, c.sharding, c.workload);
    totals_of(g);
    const auto before = ancestors_of(g);
    INFO("case " << i << ": " << c.workload.prefill_tokens << " + " << c.workload.decode_steps
                 << " tokens, alpha " << alpha << ", beta " << beta);
    for (std::int32_t step = 0; step < c.workload.decode_steps; ++step) {
      const auto token = static_cast<std::size_t>(c.workload.prefill_tokens + step);
      const auto owner = static_cast<std::uint32_t>(r_owner[token]);
      const auto j = static_cast<std::uint32_t>(s_owner[token]);
      for (std::int32_t l = 0; l < m.layer_count(); ++l) {
        std::int64_t sent = 0, returned = 0, context = 0, parts = 0, nonempty = 0, appended = 0;
        for (const auto& column : c.sharding.s.sets)
          nonempty += !column.empty() && column.front() <= static_cast<std::int32_t>(token) ? 1 : 0;
        for (TaskId id = 0; id < g.tasks.size(); ++id) {
          const Task& task = g.tasks[id];
          if (task.step != step || task.layer != l) continue;
          if (const Transfer* message = transfer_of(task)) {
            (task.stage == Stage::send ? sent : returned) += message->bytes;
            REQUIRE((task.stage == Stage::send ? task.node : message->destination) == owner);
            continue;
          }
          const auto& compute = std::get<Compute>(task.work);
          if (const auto* gemm = std::get_if<Gemm>(&compute.op)) REQUIRE(gemm->m == batch);
          if (const auto* merge = std::get_if<Merge>(&compute.op)) {
            REQUIRE(merge->rows == batch);
            parts = merge->parts;
          }
          const auto* attention = std::get_if<AttentionDecode>(&compute.op);
          if (task.stage == Stage::cache) {  // in every row of the token's column
            ++appended;
            REQUIRE(task.node >= alpha);
            REQUIRE((task.node - alpha) % beta == j);
            continue;
          }
          if (attention == nullptr) {
            REQUIRE(task.node == owner);
            continue;
          }
          REQUIRE(task.node >= alpha + j * static_cast<std::uint32_t>(beta));
          REQUIRE(task.node < alpha + (j + 1) * static_cast<std::uint32_t>(beta));
          REQUIRE(attention->partial);
          context += attention->context;
          // Every k, v and q message that ever came to this node for this layer has arrived.
          for (TaskId other = 0; other < id; ++other) {
            const Transfer* message = transfer_of(g.tasks[other]);
            if (message == nullptr || g.tasks[other].layer != l || message->destination != task.node)
              continue;
            const bool arrived = before[id][other];
            // The prefill kernel, run before on the same node, may have waited for it instead.
            bool waited = arrived;
            for (TaskId kernel = 0; kernel < id && !waited; ++kernel)
              waited = g.tasks[kernel].node == task.node && transfer_of(g.tasks[kernel]) == nullptr &&
                       before[kernel][other];
            REQUIRE(waited);
          }
        }
        const DenseShape& d = dense_of(m, static_cast<std::size_t>(l));
        const std::int64_t row = d.q_width() * 2;
        REQUIRE(sent == batch * (nonempty * row + beta * 2 * d.kv_width() * 2));
        REQUIRE(returned == batch * nonempty * (row + d.heads * 8));
        REQUIRE(context == static_cast<std::int64_t>(token) + 1);
        REQUIRE(appended == beta);
        REQUIRE(parts == (nonempty > 1 ? nonempty : 0));
      }
      // Nothing of a step starts before the previous step has sampled its token.
      for (TaskId id = 0; id < g.tasks.size(); ++id) {
        if (g.tasks[id].step != step) continue;
        for (TaskId head = 0; head < g.tasks.size(); ++head) {
          if (g.tasks[head].step == step - 1 && g.tasks[head].stage == Stage::head) REQUIRE(before[id][head]);
        }
      }
    }
  }
}

TEST_CASE("one GPU: every kernel waits for all those before it, prefill and steps alike") {
  std::mt19937_64 random{53};
  for (int i = 0; i < 50; ++i) {
    const Case c = random_case(random, 24, 5, Kinds::all);
    const TaskGraph g = build_single(c.model, c.workload);
    totals_of(g);
    REQUIRE(g.nodes.size() == 1);
    REQUIRE(g.tasks.front().after.empty());
    for (TaskId id = 1; id < g.tasks.size(); ++id) {
      REQUIRE(transfer_of(g.tasks[id]) == nullptr);
      REQUIRE(g.tasks[id].after == std::vector<TaskId>{id - 1});
    }
  }
}

TEST_CASE("operands fit their buffers") {
  std::mt19937_64 random{47};
  for (int i = 0; i < 100; ++i) {
    const Case c = random_case(random, 24, 5, Kinds::all);
    for (const TaskGraph& g :
         {build_cascade(c.model, c.sharding, c.workload), build_single(c.model, c.workload)}) {
      require_operands_fit(g);
    }
  }
}

TEST_CASE("nothing is read that no kernel wrote and no message brought") {
  std::mt19937_64 random{59};
  for (int i = 0; i < 100; ++i) {
    const Case c = random_case(random, 24, 5, Kinds::all);
    for (const TaskGraph& g :
         {build_cascade(c.model, c.sharding, c.workload), build_single(c.model, c.workload)}) {
      std::vector<bool> written(g.buffers.size());
      for (BufferId b = 0; b < g.buffers.size(); ++b) {
        const bool attn = g.nodes[g.buffers[b].node].kind == NodeKind::attn;
        written[b] = g.buffers[b].weight ||
                     (attn ? g.buffers[b].name == "q, k, v" || g.buffers[b].name.starts_with("received")
                           : g.nodes.size() > 1 && g.buffers[b].name.starts_with("partial"));
      }
      for (const Task& task : g.tasks) {
        const auto* compute = std::get_if<Compute>(&task.work);
        if (compute == nullptr) continue;
        const std::vector<Operand> operands = operands_of(compute->op);
        for (std::size_t o = 0; o < operands.size(); ++o) {
          INFO("case " << i << ", " << name_of(task.stage) << " of layer " << task.layer << ", step "
                       << task.step << ": " << operands[o].role << " in "
                       << g.buffers[compute->operands[o]].name);
          if (!operands[o].written) REQUIRE(written[compute->operands[o]]);
        }
        for (std::size_t o = 0; o < operands.size(); ++o) {
          if (operands[o].written) written[compute->operands[o]] = true;
        }
      }
    }
  }
}

TEST_CASE("decoding reads from the cache exactly what was appended to it; a bidirectional model has none") {
  std::mt19937_64 random{61};
  for (int i = 0; i < 100; ++i) {
    const Case c = random_case(random, 24, 5, Kinds::all);
    for (const TaskGraph& g :
         {build_cascade(c.model, c.sharding, c.workload), build_single(c.model, c.workload)}) {
      INFO("case " << i << ", " << g.nodes.size() << " nodes");
      std::map<BufferId, std::int64_t> appended;
      std::map<std::pair<std::uint32_t, std::int32_t>, BufferId> cache_of;
      for (const Task& task : g.tasks) {
        const auto* compute = std::get_if<Compute>(&task.work);
        if (compute == nullptr) continue;
        const std::vector<Operand> operands = operands_of(compute->op);
        if (task.stage == Stage::cache) {
          REQUIRE(kind_of(compute->op) == "memcpy");
          appended[compute->operands[1]] += operands[1].bytes;
          REQUIRE(cache_of.try_emplace({task.node, task.layer}, compute->operands[1]).first->second ==
                  compute->operands[1]);
        } else if (kind_of(compute->op) == "attention_decode") {
          REQUIRE(compute->operands[1] == compute->operands[2]);
          REQUIRE(compute->operands[1] == cache_of.at({task.node, task.layer}));
          REQUIRE(operands[1].bytes + operands[2].bytes == appended.at(compute->operands[1]));
        } else if (kind_of(compute->op) == "mla_decode") {
          REQUIRE(compute->operands[2] == cache_of.at({task.node, task.layer}));
          REQUIRE(operands[2].bytes == appended.at(compute->operands[2]));
        }
      }
      for (BufferId b = 0; b < g.buffers.size(); ++b) {
        if (g.buffers[b].name.find("cache") == std::string::npos) continue;
        REQUIRE(c.model.causal);
        REQUIRE(appended[b] == g.buffers[b].bytes);
      }
      REQUIRE(appended.empty() == (!c.model.causal || c.model.kv_bytes_per_token() == 0));
    }
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

TEST_CASE("kinds of layers without a task graph are refused by layer and name") {
  const auto complaint = [](const Architecture& m) -> std::string {
    const auto text = [&](const auto& build) -> std::string {
      try {
        build();
      } catch (const std::invalid_argument& e) {
        return e.what();
      }
      return "";
    };
    const std::string single = text([&] { build_single(m, {.prefill_tokens = 8}); });
    CHECK(single == text([&] {
            build_cascade(m, {contiguous(8, 2), contiguous(8, 2)}, {.prefill_tokens = 8});
          }));
    return single;
  };
  Architecture m = small_model(3);
  CHECK(complaint(m).empty());
  m.layers[1].attention = DenseShape{.heads = 4, .kv_heads = 2, .head_dim = 16, .window = 7};
  CHECK(complaint(m).find("a sliding window of 7 tokens, fewer than the 8") != std::string::npos);
}

/// What of a layer's messages and kernels the closed forms below are about.
struct LayerTotals {
  std::int64_t sent = 0, returned = 0;
  int sends = 0, returns = 0;
  std::map<std::string, std::vector<std::pair<std::uint32_t, Operator>>> kernels;  // by kind: node, operator
  std::vector<std::pair<std::uint32_t, Operator>> of(const std::string& kind) const {
    const auto at = kernels.find(kind);
    return at == kernels.end() ? std::vector<std::pair<std::uint32_t, Operator>>{} : at->second;
  }
};
LayerTotals layer_totals(const TaskGraph& g, std::int32_t layer, std::int32_t step) {
  LayerTotals t;
  for (const Task& task : g.tasks) {
    if (task.layer != layer || task.step != step) continue;
    if (const Transfer* message = transfer_of(task)) {
      (task.stage == Stage::send ? t.sent : t.returned) += message->bytes;
      ++(task.stage == Stage::send ? t.sends : t.returns);
    } else {
      const Operator& op = std::get<Compute>(task.work).op;
      t.kernels[std::string{kind_of(op)}].emplace_back(task.node, op);
    }
  }
  return t;
}

/// S_k's with a token at or before `token`.
std::int64_t columns_with_context(const Sharding& s, std::int64_t token) {
  return std::count_if(s.s.sets.begin(), s.s.sets.end(),
                       [&](const auto& set) { return !set.empty() && set.front() <= token; });
}

void check_latent_layer(const Case& c, const TaskGraph& g, std::int32_t l, const MlaShape& m) {
  constexpr std::int64_t e = 2;
  const std::int64_t batch = c.workload.batch, prompt = c.workload.prefill_tokens;
  const auto alpha = static_cast<std::uint32_t>(c.sharding.r.sets.size());
  const auto s = first_tokens(c.sharding.s, prompt).sets;
  const auto beta = static_cast<std::int64_t>(s.size());
  // Prefill: a latent row to beta AttnNodes; a row's parts from the AttnNodes that see anything of it.
  std::int64_t sent = prompt * beta * m.latent_width() * e, returned = 0;
  std::size_t visible = 0;
  for (const auto& rows : s) {
    const auto q_rows = static_cast<std::int64_t>(rows.size());
    for (const auto& column : s) {
      if (rows.empty() || column.empty()) continue;
      sent += q_rows * m.heads * m.qk_dim() * e;
      if (c.model.causal && rows.back() < column.front()) continue;
      ++visible;
      returned += q_rows * m.heads * (m.v_dim * e + 8);
    }
  }
  const LayerTotals prefill = layer_totals(g, l, -1);
  REQUIRE(prefill.sent == sent * batch);
  REQUIRE(prefill.returned == returned * batch);
  REQUIRE(prefill.of("mla_prefill").size() == visible);
  REQUIRE(prefill.of("mla_decode").empty());
  // Every node that attends forms its own keys and values, of its rows and once.
  std::map<std::uint32_t, std::int64_t> expanded;
  for (const auto& [node, op] : prefill.of("gemm")) {
    const auto& gemm = std::get<Gemm>(op);
    if (node < alpha) continue;
    REQUIRE(gemm.n == m.heads * (m.nope + m.v_dim));
    REQUIRE(gemm.k == m.kv_lora);
    REQUIRE(expanded.try_emplace(node, gemm.m).second);
  }
  REQUIRE(expanded.size() == visible);
  for (const auto& [node, op] : prefill.of("mla_prefill")) {
    const auto& attention = std::get<LatentAttention>(op);
    REQUIRE(attention.partial);
    REQUIRE(expanded.at(node) == attention.kv_rows * batch);
  }
  for (const auto& [node, op] : prefill.of("merge")) REQUIRE(std::get<Merge>(op).head_dim == m.v_dim);
  // Decode: absorbed queries to the AttnNodes with context, the latent row to the token's column.
  for (std::int32_t step = 0; step < c.workload.decode_steps; ++step) {
    const std::int64_t token = prompt + step, columns = columns_with_context(c.sharding, token);
    const auto owner = static_cast<std::uint32_t>(owners(c.sharding.r)[static_cast<std::size_t>(token)]);
    const LayerTotals decode = layer_totals(g, l, step);
    REQUIRE(decode.sent == batch * e * m.latent_width() * (columns * m.heads + beta));
    REQUIRE(decode.returned == batch * columns * m.heads * (m.kv_lora * e + 8));
    std::int64_t context = 0;
    for (const auto& [node, op] : decode.of("mla_decode")) {
      REQUIRE(node >= alpha);
      context += std::get<LatentDecode>(op).context;
    }
    REQUIRE(context == token + 1);
    REQUIRE(decode.of("memcpy").size() == static_cast<std::size_t>(beta));
    // W_uk before and W_uv after, where the token's row is.
    const auto products = decode.of("batched_gemm");
    REQUIRE(products.size() == 2);
    for (const auto& [node, op] : products) REQUIRE(node == owner);
    REQUIRE(std::get<BatchedGemm>(products[0].second).n == m.kv_lora);
    REQUIRE(std::get<BatchedGemm>(products[1].second).n == m.v_dim);
    REQUIRE(decode.of("merge").size() == (columns > 1 ? 1 : 0));
    for (const auto& [node, op] : decode.of("merge")) REQUIRE(std::get<Merge>(op).head_dim == m.kv_lora);
  }
}

void check_linear_layer(const Case& c, const TaskGraph& g, std::int32_t l, const KdaShape& k) {
  constexpr std::int64_t e = 2;
  const std::int64_t prompt = c.workload.prefill_tokens;
  const auto alpha = static_cast<std::int64_t>(c.sharding.r.sets.size());
  const auto beta = static_cast<std::int64_t>(c.sharding.s.sets.size());
  const std::int64_t nodes = std::min(k.heads, beta * beta);
  const auto r = first_tokens(c.sharding.r, prompt).sets;
  const std::int64_t senders =
      std::count_if(r.begin(), r.end(), [](const auto& rows) { return !rows.empty(); });
  for (std::int32_t step = -1; step < c.workload.decode_steps; ++step) {
    // Each row's q, k, v, decay and strength go once, to the nodes of the heads; the results come back once.
    const std::int64_t rows = c.workload.batch * (step < 0 ? prompt : 1);
    const LayerTotals t = layer_totals(g, l, step);
    REQUIRE(t.sent == rows * k.heads * (3 * k.k_dim + k.v_dim + 1) * e);
    REQUIRE(t.returned == rows * k.heads * k.v_dim * e);
    REQUIRE(t.sends == nodes * (step < 0 ? senders : 1));
    REQUIRE(t.returns == t.sends);
    REQUIRE(t.of("merge").empty());
    REQUIRE(t.of("causal_conv1d").size() == static_cast<std::size_t>(nodes));
    std::int64_t heads = 0;
    for (const auto& [node, op] : t.of(step < 0 ? "kda_prefill" : "kda_decode")) {
      REQUIRE(node >= alpha);
      const std::int64_t mine =
          step < 0 ? std::get<LinearAttention>(op).heads : std::get<LinearDecode>(op).heads;
      REQUIRE(mine >= k.heads / (beta * beta));
      REQUIRE(mine <= k.heads / (beta * beta) + 1);
      if (step < 0) REQUIRE(std::get<LinearAttention>(op).seq == prompt);
      heads += mine;
    }
    REQUIRE(heads == k.heads);
  }
}

TEST_CASE("MLA and KDA over AttnNodes: closed forms of what is sent, and who computes what") {
  std::mt19937_64 random{67};
  int latent = 0, linear = 0;
  for (int i = 0; i < 200; ++i) {
    const Case c = random_case(random, 24, 4, Kinds::all);
    const TaskGraph g = build_cascade(c.model, c.sharding, c.workload);
    totals_of(g);
    INFO("case " << i << ": " << c.workload.prefill_tokens << " + " << c.workload.decode_steps
                 << " tokens, alpha " << c.sharding.r.sets.size() << ", beta " << c.sharding.s.sets.size());
    for (std::int32_t l = 0; l < c.model.layer_count(); ++l) {
      const AttentionShape& attention = c.model.layers[static_cast<std::size_t>(l)].attention;
      if (const auto* m = std::get_if<MlaShape>(&attention)) {
        ++latent;
        check_latent_layer(c, g, l, *m);
      } else if (const auto* k = std::get_if<KdaShape>(&attention)) {
        ++linear;
        check_linear_layer(c, g, l, *k);
      }
    }
  }
  CHECK(latent > 50);
  CHECK(linear > 50);
}

TEST_CASE("fetched latents: each row once to each CompNode that decodes, which attends by itself") {
  std::mt19937_64 random{83};
  int steps = 0;
  for (int i = 0; i < 200; ++i) {
    Case c = random_case(random, 24, 5, Kinds::all);
    if (!c.model.causal) continue;
    c.workload.latents = LatentPolicy::fetch;
    const std::int64_t batch = c.workload.batch;
    const auto beta = static_cast<std::int64_t>(c.sharding.s.sets.size());
    const TaskGraph g = build_cascade(c.model, c.sharding, c.workload);
    const Totals totals = totals_of(g);
    INFO("case " << i);
    CHECK(totals.attention_flops ==
          Catch::Approx(totals_of(build_single(c.model, c.workload)).attention_flops).epsilon(1e-12));
    for (std::int32_t l = 0; l < c.model.layer_count(); ++l) {
      const auto* m = std::get_if<MlaShape>(&c.model.layers[static_cast<std::size_t>(l)].attention);
      if (m == nullptr) continue;
      std::map<std::int32_t, std::int64_t> held;  // by CompNode: rows, from the first
      for (std::int32_t step = 0; step < c.workload.decode_steps; ++step) {
        ++steps;
        const std::int64_t token = c.workload.prefill_tokens + step, row = m->latent_width() * 2 * batch;
        const std::int32_t owner = owners(c.sharding.r)[static_cast<std::size_t>(token)];
        const LayerTotals t = layer_totals(g, l, step);
        REQUIRE(t.returned == (token - held[owner]) * row);
        REQUIRE(t.sent >= beta * row);
        REQUIRE(t.sent <= beta * row + 8 * (beta - 1));  // requests
        held[owner] = token + 1;
        REQUIRE(t.of("merge").empty());
        REQUIRE(t.of("mla_decode").size() == 1);
        REQUIRE(t.of("mla_decode")[0].first == static_cast<std::uint32_t>(owner));
        REQUIRE(std::get<LatentDecode>(t.of("mla_decode")[0].second).context == token + 1);
        REQUIRE(t.of("memcpy").size() == static_cast<std::size_t>(beta) + 1);
      }
    }
  }
  CHECK(steps > 50);
}

TEST_CASE("what attends over AttnNodes waits for all its rows, and their owner for all results") {
  std::mt19937_64 random{71};
  for (int i = 0; i < 60; ++i) {
    Case c = random_case(random, 16, 2, Kinds::all);
    if (i % 2 == 1) c.workload.latents = LatentPolicy::fetch;
    const TaskGraph g = build_cascade(c.model, c.sharding, c.workload);
    const auto before = ancestors_of(g);
    INFO("case " << i);
    for (TaskId id = 0; id < g.tasks.size(); ++id) {
      const Task& task = g.tasks[id];
      if (transfer_of(task) != nullptr || (task.stage != Stage::attention && task.stage != Stage::o_proj))
        continue;
      for (TaskId other = 0; other < g.tasks.size(); ++other) {
        const Task& o = g.tasks[other];
        const Transfer* message = transfer_of(o);
        if (message == nullptr || o.layer != task.layer || o.step != task.step) continue;
        if (message->destination != task.node) continue;
        REQUIRE(before[id][other]);
      }
    }
  }
}

TEST_CASE("weights, caches and states of MLA and KDA are those of the architecture, copies counted") {
  std::mt19937_64 random{73};
  const auto weights = {"latent down",
                        "latent norms",
                        "query",
                        "latent up",
                        "q, k, v, strength, low ranks",
                        "decay and gate",
                        "o",
                        "convolution and decay"};
  for (int i = 0; i < 100; ++i) {
    const Case c = random_case(random, 24, 4, Kinds::all);
    const TaskGraph one = build_single(c.model, c.workload);
    const TaskGraph many = build_cascade(c.model, c.sharding, c.workload);
    const auto alpha = static_cast<std::int64_t>(c.sharding.r.sets.size());
    const auto beta = static_cast<std::int64_t>(c.sharding.s.sets.size());
    const std::int64_t batch = c.workload.batch, tokens = c.workload.prefill_tokens + c.workload.decode_steps;
    INFO("case " << i);
    for (std::int32_t l = 0; l < c.model.layer_count(); ++l) {
      const AttentionShape& attention = c.model.layers[static_cast<std::size_t>(l)].attention;
      if (std::holds_alternative<DenseShape>(attention)) continue;
      const std::int64_t all = parameters_of(attention, c.model.hidden) * 2;
      REQUIRE(bytes_named(one, l, NodeKind::comp, weights) == all);
      // Every CompNode has all weights but those that work where the heads are; W_uk and W_uv are in both.
      const auto at_heads = {"convolution and decay"};
      const std::int64_t there = bytes_named(one, l, NodeKind::comp, at_heads);
      REQUIRE(bytes_named(many, l, NodeKind::comp, weights) == alpha * (all - there));
      REQUIRE(bytes_named(many, l, NodeKind::attn, weights) ==
              there + beta * beta * bytes_named(one, l, NodeKind::comp, {"latent up"}));
      const auto states = {"state", "convolution state"};
      const std::int64_t state = batch * state_bytes_per_sequence(attention, c.model.dtype);
      REQUIRE(bytes_named(one, l, NodeKind::comp, states) == state);
      REQUIRE(bytes_named(many, l, NodeKind::attn, states) == state);
      const std::int64_t cache =
          c.model.causal ? batch * tokens * kv_bytes_per_token(attention, c.model.dtype) : 0;
      REQUIRE(bytes_named(one, l, NodeKind::comp, {"latent cache"}) == cache);
      REQUIRE(bytes_named(many, l, NodeKind::attn, {"latent cache"}) == beta * cache);
    }
  }
}

TEST_CASE("shards of MLA and KDA compute the unsharded attention FLOPs") {
  std::mt19937_64 random{79};
  for (int i = 0; i < 100; ++i) {
    const Case c = random_case(random, 24, 4, Kinds::all);
    INFO("case " << i);
    CHECK(totals_of(build_cascade(c.model, c.sharding, c.workload)).attention_flops ==
          Catch::Approx(totals_of(build_single(c.model, c.workload)).attention_flops).epsilon(1e-12));
  }
}

}  // namespace
}  // namespace tessera::models
