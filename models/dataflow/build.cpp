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
#include "models/dataflow/latent_attention.hpp"
#include "models/dataflow/linear_attention.hpp"
#include "models/dataflow/moba.hpp"
#include "models/dataflow/placement.hpp"

namespace tessera::models {

std::string_view name_of(Stage stage) {
  static constexpr std::array<std::string_view, kStages> names{
      "embed", "norm",   "qkv", "rope",  "send",     "cache",   "gate",    "scan",   "attention", "return",
      "merge", "o_proj", "mlp", "route", "dispatch", "experts", "combine", "reduce", "head"};
  return names[static_cast<std::size_t>(stage)];
}

namespace {

constexpr std::int64_t kTokenBytes = 8;  // a sampled token's id

/// What builds the attention of each kind of layer: `of` chooses by a layer's shape.
template <class Dense, class Moba, class Latent, class Linear>
struct Attentions {
  Dense dense;
  Moba moba;
  Latent latent;
  Linear linear;
  Dense& of(const DenseShape&) { return dense; }
  Moba& of(const MobaShape&) { return moba; }
  Latent& of(const MlaShape&) { return latent; }
  Linear& of(const KdaShape&) { return linear; }
};

/// Calls `build` with the current layer's shape.
template <class Build>
auto by_attention(const GraphBuilder& g, const Build& build) {
  return std::visit([&](const auto& shape) { return build(shape); }, g.current().attention);
}

}  // namespace

TaskGraph build_single(const Architecture& model, const Workload& workload) {
  GraphBuilder g{model, workload};
  g.graph.nodes = {{"gpu0", NodeKind::comp}};
  const std::int64_t rows = workload.new_tokens() * workload.batch;
  const std::vector<CompNode> nodes{comp_node(g, 0, std::max(rows, workload.batch), 0)};
  const CompNode& node = nodes.front();
  Attentions<DenseOnOneNode, MobaOnOneNode, LatentOnOneNode, LinearOnOneNode> attention{
      {g, node}, {g, attention.dense}, {g, node}, {g, node}};
  FeedForward feed_forward{g, nodes, {std::max(rows, workload.batch)}};
  std::vector<TaskId> previous;
  for (g.step = rows > 0 ? -1 : 0; g.step < workload.decode_steps; ++g.step) {
    const std::int64_t step_rows = g.step < 0 ? rows : workload.batch;
    std::vector<TaskId> last{embed(g, node, step_rows, previous)};
    for (g.layer = 0; g.layer < model.layer_count(); ++g.layer) {
      last = {by_attention(
          g, [&](const auto& shape) { return attention.of(shape).run(shape, step_rows, last.front()); })};
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
  Attentions<DenseOverNodes, MobaOverNodes, LatentOverNodes, LinearOverNodes> attention{
      {g, p, comp}, {g, p, attention.dense}, {g, p, comp}, {g, p, comp}};
  FeedForward feed_forward{g, comp, most_rows};

  // Prefill of what is not cached.
  std::vector<TaskId> last(p.alpha);
  for (std::uint32_t i = 0; i < p.alpha; ++i) {
    if (!p.r[i].empty()) last[i] = embed(g, comp[i], p.r_rows(i) * workload.batch, {});
  }
  const std::int64_t prefilled_layers = workload.new_tokens() > 0 ? model.layer_count() : 0;
  for (g.layer = 0; g.layer < prefilled_layers; ++g.layer) {
    by_attention(g, [&](const auto& shape) { attention.of(shape).prefill(shape, last); });
    for (std::uint32_t i = 0; i < p.alpha; ++i) {
      if (p.r[i].empty()) continue;
      last[i] = by_attention(g, [&](const auto& shape) { return attention.of(shape).finish(shape, i); });
    }
    feed_forward.run(rows, last);
  }
  auto at = static_cast<std::uint32_t>(p.r_owner[static_cast<std::size_t>(workload.prefill_tokens - 1)]);
  std::vector<TaskId> sampled;  // none: the first token to be decoded is at hand where it is needed
  if (prefilled_layers > 0) sampled = {language_head(g, comp[at], last[at])};

  // Decode: each step's token belongs to one CompNode and to one row and column of AttnNodes.
  for (g.step = 0; g.step < workload.decode_steps; ++g.step) {
    const std::int64_t token = workload.prefill_tokens + g.step;
    const auto i = static_cast<std::uint32_t>(p.r_owner[static_cast<std::size_t>(token)]);
    g.layer = -1;
    if (i != at && !sampled.empty())
      sampled = {g.send(at, i, Stage::embed, kTokenBytes * workload.batch, sampled)};
    TaskId& t = last[i] = embed(g, comp[i], workload.batch, sampled);
    rows.assign(p.alpha, 0);
    rows[i] = workload.batch;
    for (g.layer = 0; g.layer < model.layer_count(); ++g.layer) {
      t = by_attention(g, [&](const auto& shape) { return attention.of(shape).decode(shape, i, token, t); });
      feed_forward.run(rows, last);
    }
    sampled = {language_head(g, comp[i], t)};
    at = i;
  }
  return std::move(g.graph);
}

}  // namespace tessera::models
