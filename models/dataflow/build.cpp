#include "models/dataflow/build.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <stdexcept>

#include "models/architecture/overloaded.hpp"
#include "models/dataflow/comp_node.hpp"
#include "models/dataflow/dense_attention.hpp"
#include "models/dataflow/feed_forward.hpp"
#include "models/dataflow/graph_builder.hpp"
#include "models/dataflow/moba.hpp"
#include "models/dataflow/placement.hpp"

namespace tessera::models {

std::string_view name_of(Stage stage) {
  static constexpr std::array<std::string_view, kStages> names{"embed", "norm",   "qkv",       "rope",
"send",  "cache",  "gate", "attention", "return",
"merge", "o_proj", "mlp", "route", "dispatch", "experts", "combine", "head"};
  return names[static_cast<std::size_t>(stage)];
}

namespace {

constexpr std::int64_t kTokenBytes = 8;  // a sampled token's id

/// Calls `dense` for a dense layer, `moba` for a MoBA layer: the other kinds' task graphs are still to come,
/// each with a call of its own beside these.
template <class Dense, class Moba>
auto by_attention(const GraphBuilder& g, const Dense& dense, const Moba& moba) {
  using Result = std::invoke_result_t<Dense, const DenseShape&>;
  return std::visit(Overloaded{dense, moba,
                               [&](const MlaShape&) -> Result { g.not_built("latent attention (MLA)"); },
                               [&](const KdaShape&) -> Result { g.not_built("Kimi delta attention (KDA)"); }},
                    g.current().attention);
}

}  // namespace

TaskGraph build_single(const Architecture& model, const Workload& workload) {
  GraphBuilder g{model, workload};
  g.graph.nodes = {{"gpu0", NodeKind::comp}};
  const std::int64_t rows = workload.prefill_tokens * workload.batch;
  const std::vector<CompNode> nodes{comp_node(g, 0, rows, 0)};
  const CompNode& node = nodes.front();
  DenseOnOneNode dense{g, node};
  FeedForward feed_forward{g, nodes, {rows}};
  std::vector<TaskId> previous;
  for (g.step = -1; g.step < workload.decode_steps; ++g.step) {
    const std::int64_t step_rows = g.step < 0 ? rows : workload.batch;
    std::vector<TaskId> last{embed(g, node, step_rows, previous)};
    for (g.layer = 0; g.layer < model.layer_count(); ++g.layer) {
      last = {by_attention(
          g, [&](const DenseShape& shape) { return dense.run(shape, step_rows, last.front()); },
          [&](const MobaShape& shape) { return moba_on_one_node(g, dense, shape, step_rows, last.front()); })};
      feed_forward.run({step_rows}, last);
    }
    previous = {language_head(g, node, last.front())};
  }
  return std::move(g.graph);
}

TaskGraph build_cascade(const Architecture& model, const Sharding& sharding, const Workload& workload) {
  GraphBuilder g{model, workload};
  check(sharding);
  if (sharding.r.tokens != g.tokens()) {
    throw std::invalid_argument{
        fmt::format("the sharding shares out {} tokens, the workload has {}", sharding.r.tokens, g.tokens())};
  }
  const Placement p{sharding, workload, model.causal};
  for (std::uint32_t i = 0; i < p.alpha; ++i)
    g.graph.nodes.push_back({fmt::format("comp{}", i), NodeKind::comp});
  for (std::uint32_t j = 0; j < p.beta; ++j) {
    for (std::uint32_t k = 0; k < p.beta; ++k)
      g.graph.nodes.push_back({fmt::format("attn{},{}", j, k), NodeKind::attn});
  }
  std::vector<CompNode> comp;
  std::vector<std::int64_t> rows, most_rows;
  for (std::uint32_t i = 0; i < p.alpha; ++i) {
    rows.push_back(p.r_rows(i) * workload.batch);
    most_rows.push_back(std::max(rows.back(), workload.batch));
    comp.push_back(comp_node(g, i, most_rows.back(), p.beta));
  }
  DenseOverNodes dense{g, p, comp};
  MobaOverNodes moba{g, p, dense};
  FeedForward feed_forward{g, comp, most_rows};

  // Prefill.
  std::vector<TaskId> last(p.alpha);
  for (std::uint32_t i = 0; i < p.alpha; ++i) {
    if (!p.r[i].empty()) last[i] = embed(g, comp[i], p.r_rows(i) * workload.batch, {});
  }
  for (g.layer = 0; g.layer < model.layer_count(); ++g.layer) {
    by_attention(
        g, [&](const DenseShape& shape) { dense.prefill(shape, last); },
        [&](const MobaShape& shape) { moba.prefill(shape, last); });
    for (std::uint32_t i = 0; i < p.alpha; ++i) {
      if (p.r[i].empty()) continue;
      last[i] = by_attention(
          g, [&](const DenseShape& shape) { return dense.finish(shape, i); },
          [&](const MobaShape& shape) { return dense.finish(shape.dense, i); });
    }
    feed_forward.run(rows, last);
  }
  auto at = static_cast<std::uint32_t>(p.r_owner[static_cast<std::size_t>(workload.prefill_tokens - 1)]);
  TaskId sampled = language_head(g, comp[at], last[at]);

  // Decode: each step's token belongs to one CompNode and to one row and column of AttnNodes.
  for (g.step = 0; g.step < workload.decode_steps; ++g.step) {
    const std::int64_t token = workload.prefill_tokens + g.step;
    const auto i = static_cast<std::uint32_t>(p.r_owner[static_cast<std::size_t>(token)]);
    g.layer = -1;
    if (i != at) sampled = g.send(at, i, Stage::embed, kTokenBytes * workload.batch, {sampled});
    TaskId& t = last[i] = embed(g, comp[i], workload.batch, {sampled});
    rows.assign(p.alpha, 0);
    rows[i] = workload.batch;
    for (g.layer = 0; g.layer < model.layer_count(); ++g.layer) {
      t = by_attention(
          g, [&](const DenseShape& shape) { return dense.decode(shape, i, token, t); },
          [&](const MobaShape& shape) { return dense.decode(shape.dense, i, token, t); });
      feed_forward.run(rows, last);
    }
    sampled = language_head(g, comp[i], t);
    at = i;
  }
  return std::move(g.graph);
}

}  // namespace tessera::models
