#include "models/dataflow/moe.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace tessera::models {

namespace {

constexpr std::int64_t kLogitBytes = 4, kChoiceBytes = 8;  // fp32; an expert's index and weight

Moe routed(const MoeShape& shape, std::int64_t hidden, std::int64_t tokens, const ExpertLoads& loads,
           Dtype dtype) {
  return {.tokens = tokens,
          .hidden = hidden,
          .intermediate = shape.width,
          .experts = static_cast<std::int64_t>(loads->size()),
          .all_experts = shape.experts,
          .topk = shape.topk,
          .loads = loads,
          .dtype = dtype};
}

}  // namespace

MixtureOfExperts::MixtureOfExperts(GraphBuilder& g, const std::vector<CompNode>& nodes,
                                   const std::vector<std::int64_t>& most_rows)
    : g_{g},
      comp_{nodes},
      spread_{g.workload.experts == ExpertPlacement::spread && nodes.size() > 1},
      nodes_(nodes.size()) {
  const std::int64_t e = g.element_bytes(), row = g.model.hidden * e;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    Node& n = nodes_[i];
    const std::uint32_t id = nodes[i].id;
    n.weights.resize(g.model.layers.size());
    std::int64_t logits = 0, choices = 0, received = 0, parts = 0, between = 0, shared_width = 0;
    for (g.layer = 0; g.layer < g.model.layer_count(); ++g.layer) {
      const auto* shape = std::get_if<MoeShape>(&g.current().feed_forward);
      if (shape == nullptr) continue;
      const ExpertTraffic& t = spread_ ? traffic(*shape, most_rows) : traffic(*shape, {most_rows[i]});
      const std::size_t at = spread_ ? i : 0;
      add_weights(i, *shape, t.loads[at] ? static_cast<std::int64_t>(t.loads[at]->size()) : 0);
      // A decoded token may go where none of the prompt's went.
      const std::int64_t worked = std::max(t.received(at), spread_ ? g.workload.batch : 0);
      logits = std::max(logits, most_rows[i] * shape->experts * kLogitBytes);
      choices = std::max(choices, std::max(most_rows[i], worked) * shape->topk * kChoiceBytes);
      received = std::max(received, worked);
      parts = std::max(parts, t.parts(at) + (shape->shared > 0 ? most_rows[i] : 0));
      shared_width = std::max(shared_width, shape->shared * shape->width);
      if (t.loads[at])
        between = std::max(
            between, routed(*shape, g.model.hidden, worked, t.loads[at], g.model.dtype).between_bytes());
    }
    g.layer = -1;
    if (logits == 0) continue;
    n.logits = g.buffer(id, logits, "router logits");
    n.choices = g.buffer(id, choices, "chosen experts");
    g.buffer(id, between, "between the experts' kernels");
    if (spread_) {
      n.received = g.buffer(id, received * row, "rows of experts here");
      n.results = g.buffer(id, received * row, "results of experts here");
    }
    if (spread_ || shared_width > 0) n.parts = g.buffer(id, parts * row, "expert results");
    if (shared_width > 0) {
      n.wide = g.buffer(id, most_rows[i] * 2 * shared_width * e, "shared experts' up projection");
      n.activated = g.buffer(id, most_rows[i] * shared_width * e, "shared experts' activation");
    }
  }
}

void MixtureOfExperts::add_weights(std::size_t i, const MoeShape& shape, std::int64_t experts) {
  const std::int64_t e = g_.element_bytes(), row = g_.model.hidden * e;
  const std::uint32_t id = comp_[i].id;
  LayerWeights& w = nodes_[i].weights[static_cast<std::size_t>(g_.layer)];
  const std::int64_t bias = shape.score_bias ? shape.experts * e : 0;
  w.router = g_.buffer(id, shape.experts * row + bias, fmt::format("router.{}", g_.layer), true);
  if (experts > 0)
    w.experts = g_.buffer(id, experts * 3 * shape.width * row, fmt::format("experts.{}", g_.layer), true);
  if (shape.shared == 0) return;
  const std::int64_t width = shape.shared * shape.width;
  w.shared_up = g_.buffer(id, 2 * width * row, fmt::format("shared up.{}", g_.layer), true);
  w.shared_down = g_.buffer(id, width * row, fmt::format("shared down.{}", g_.layer), true);
}

const ExpertTraffic& MixtureOfExperts::traffic(const MoeShape& shape, const std::vector<std::int64_t>& rows) {
  LoadDistribution load = g_.workload.expert_load;
  if (load.kind == LoadKind::recorded) load.layer = g_.layer;  // all others draw every layer alike
  const auto [at, added] = traffic_.try_emplace({shape.experts, shape.topk, load.layer, rows});
  if (added) at->second = expert_traffic(load, shape.experts, shape.topk, rows);
  return at->second;
}

void MixtureOfExperts::run(const MoeShape& shape, const std::vector<std::int64_t>& rows,
                           std::vector<TaskId>& last) {
  if (spread_) return run_group(shape, 0, nodes_.size(), rows, last);
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    if (rows[i] > 0) run_group(shape, i, i + 1, rows, last);
  }
}

TaskId MixtureOfExperts::route(const MoeShape& shape, std::size_t i, std::int64_t rows, TaskId after) {
  const Architecture& m = g_.model;
  const Node& n = nodes_[i];
  const LayerWeights& w = n.weights[static_cast<std::size_t>(g_.layer)];
  const TaskId scored = g_.add(comp_[i].id, Stage::route, Gemm{rows, shape.experts, m.hidden, m.dtype},
                               {comp_[i].normed, w.router, n.logits}, {after});
  const RouterScore score =
      shape.score == MoeShape::Score::softmax ? RouterScore::softmax : RouterScore::sigmoid;
  return g_.add(comp_[i].id, Stage::route, Router{rows, shape.experts, shape.topk, score, shape.groups},
                {n.logits, n.choices}, {scored});
}

TaskId MixtureOfExperts::shared(const MoeShape& shape, std::size_t i, std::int64_t rows, TaskId after) {
  const Architecture& m = g_.model;
  const Node& n = nodes_[i];
  const LayerWeights& w = n.weights[static_cast<std::size_t>(g_.layer)];
  const std::uint32_t id = comp_[i].id;
  const std::int64_t width = shape.shared * shape.width;
  TaskId t = g_.add(id, Stage::mlp, Gemm{rows, 2 * width, m.hidden, m.dtype},
                    {comp_[i].normed, w.shared_up, n.wide}, {after});
  t = g_.add(id, Stage::mlp, Activation{rows, width, ActivationKind::swiglu, m.dtype}, {n.wide, n.activated},
             {t});
  return g_.add(id, Stage::mlp, Gemm{rows, m.hidden, width, m.dtype}, {n.activated, w.shared_down, n.parts},
                {t});
}

void MixtureOfExperts::run_group(const MoeShape& shape, std::size_t first, std::size_t last_node,
                                 const std::vector<std::int64_t>& rows, std::vector<TaskId>& last) {
  const Architecture& m = g_.model;
  const std::size_t size = last_node - first;
  const std::vector<std::int64_t> here(rows.begin() + static_cast<std::ptrdiff_t>(first),
                                       rows.begin() + static_cast<std::ptrdiff_t>(last_node));
  const ExpertTraffic& t = traffic(shape, here);
  const std::int64_t row = m.hidden * g_.element_bytes();
  std::vector<std::vector<TaskId>> arrived(size), parts(size);
  for (std::size_t i = 0; i < size; ++i) {
    if (here[i] == 0) continue;
    const std::uint32_t id = comp_[first + i].id;
    const TaskId routed_to = route(shape, first + i, here[i], last[first + i]);
    for (std::size_t n = 0; n < size; ++n) {
      if (t.rows[i][n] == 0) continue;
      const std::int64_t bytes = t.rows[i][n] * (row + shape.topk * kChoiceBytes);
      arrived[n].push_back(n == i ? routed_to
                                  : g_.send(id, comp_[first + n].id, Stage::dispatch, bytes, {routed_to}));
    }
    // While rows are on their way.
    if (shape.shared > 0) parts[i] = {shared(shape, first + i, here[i], routed_to)};
  }
  const bool summed = size > 1 || shape.shared > 0;
  for (std::size_t n = 0; n < size; ++n) {
    const std::int64_t tokens = t.received(n);
    if (tokens == 0) continue;
    const Node& node = nodes_[first + n];
    const CompNode& comp = comp_[first + n];
    const BufferId in = size > 1 ? node.received : comp.normed;
    const BufferId out = size > 1 ? node.results : summed ? node.parts : comp.branch;
    const TaskId done =
        g_.add(comp.id, Stage::experts, routed(shape, m.hidden, tokens, t.loads[n], m.dtype),
               {in, node.choices, node.weights[static_cast<std::size_t>(g_.layer)].experts, out}, arrived[n]);
    for (std::size_t i = 0; i < size; ++i) {
      if (t.rows[i][n] == 0) continue;
      parts[i].push_back(
          n == i ? done : g_.send(comp.id, comp_[first + i].id, Stage::combine, t.rows[i][n] * row, {done}));
    }
  }
  for (std::size_t i = 0; i < size; ++i) {
    if (here[i] == 0) continue;
    const CompNode& comp = comp_[first + i];
    const std::int64_t inputs = t.parts(i) + (shape.shared > 0 ? here[i] : 0);
    last[first + i] = summed ? g_.add(comp.id, Stage::combine, Sum{here[i], inputs, m.hidden, m.dtype},
                                      {nodes_[first + i].parts, comp.branch}, std::move(parts[i]))
                             : parts[i].front();
  }
}

}  // namespace tessera::models
