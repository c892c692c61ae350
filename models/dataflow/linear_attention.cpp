#include "models/dataflow/linear_attention.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace tessera::models {

namespace {

std::int64_t qkv_width(const KdaShape& k) { return 2 * k.k_width() + k.v_width(); }
/// Of a hidden row's first projection: q, k, v, strengths, and the low ranks of decay and gate.
std::int64_t projected_width(const KdaShape& k) {
  return qkv_width(k) + k.heads + k.decay_rank + k.gate_rank;
}
/// Of a row on its way to the node of its heads: q, k, v, decay, strength.
std::int64_t sent_width(const KdaShape& k) { return qkv_width(k) + k.k_width() + k.heads; }

LinearAttention chunked(const GraphBuilder& g, const KdaShape& k) {
  return {.rule = kKda,
          .batch = g.workload.batch,
          .seq = g.workload.prefill_tokens,
          .heads = k.heads,
          .k_dim = k.k_dim,
          .v_dim = k.v_dim,
          .initial_state = false,
          .dtype = g.model.dtype};
}
LinearDecode step(const GraphBuilder& g, const KdaShape& k) {
  return {.rule = kKda,
          .batch = g.workload.batch,
          .heads = k.heads,
          .k_dim = k.k_dim,
          .v_dim = k.v_dim,
          .dtype = g.model.dtype};
}
/// Of the prompt, or of one token.
CausalConv1d convolution(const GraphBuilder& g, const KdaShape& k) {
  const bool alike = k.k_dim == k.v_dim;
  return {.batch = g.workload.batch,
          .seq = g.step < 0 ? g.workload.prefill_tokens : 1,
          .channels = alike ? k.k_width() : qkv_width(k),
          .convs = alike ? 3 : 1,
          .taps = k.taps,
          .update = g.step >= 0,
          .dtype = g.model.dtype};
}

/// `part(shape)`: the node's heads of a layer; `rows`: of the prompt, or of one token if that is more.
template <class Part>
LinearHeads linear_heads(GraphBuilder& g, std::uint32_t node, std::int64_t rows, Part part) {
  LinearHeads h;
  const std::size_t layers = g.model.layers.size();
  h.weights.resize(layers);
  h.state.resize(layers);
  h.conv_past.resize(layers);
  const std::int64_t e = g.element_bytes();
  std::int64_t mixed = 0;
  for (std::size_t l = 0; l < layers; ++l) {
    const auto* whole = std::get_if<KdaShape>(&g.model.layers[l].attention);
    if (whole == nullptr) continue;
    const KdaShape k = part(*whole);
    if (k.heads == 0) continue;
    mixed = std::max(mixed, qkv_width(k));
    h.weights[l] = g.buffer(node, (k.taps * qkv_width(k) + k.heads + k.k_width()) * e,
                            fmt::format("convolution and decay.{}", l), true);
    h.state[l] = g.buffer(node, g.workload.batch * state_bytes(step(g, k)), fmt::format("state.{}", l));
    h.conv_past[l] = g.buffer(node, g.workload.batch * state_bytes(convolution(g, k)),
                              fmt::format("convolution state.{}", l));
  }
  if (mixed > 0) h.mixed = g.buffer(node, rows * mixed * e, "convolved q, k, v");
  return h;
}

/// Convolution and recurrence of the prompt, from nothing, or of one token of each sequence, from the states.
/// `in`: q, k, v and strengths; `decay`, `out`: where the decays are, and the result goes.
TaskId run_heads(GraphBuilder& g, std::uint32_t node, const KdaShape& k, const LinearHeads& h, BufferId in,
                 BufferId decay, BufferId out, std::vector<TaskId> after) {
  const auto l = static_cast<std::size_t>(g.layer);
  const BufferId past = h.conv_past[l], state = h.state[l];
  const CausalConv1d conv = convolution(g, k);
  if (g.step < 0) {
    const TaskId t = g.add(node, Stage::qkv, conv, {in, h.weights[l], h.mixed, past}, std::move(after));
    return g.add(node, Stage::attention, chunked(g, k), {h.mixed, h.mixed, h.mixed, decay, in, out, state},
                 {t});
  }
  const TaskId t = g.add(node, Stage::qkv, conv, {in, h.weights[l], past, h.mixed, past}, std::move(after));
  return g.add(node, Stage::attention, step(g, k), {h.mixed, h.mixed, h.mixed, decay, in, state, out, state},
               {t});
}

/// Norm and projections of `rows` rows: q, k, v, strengths; decays and gates by way of their low ranks.
TaskId project(GraphBuilder& g, const CompNode& n, const KdaShape& k, std::int64_t rows, TaskId after) {
  const Dtype dtype = g.model.dtype;
  const LayerWeights& w = n.weights(g);
  const LinearActivations& a = n.linear;
  const Normed in = attention_norm(g, n, rows, after);
  // As SGLang's fused_qkvbfg_a_proj and fused_fg_b_proj.
  const TaskId t = g.add(n.id, Stage::qkv, Gemm{rows, projected_width(k), g.model.hidden, dtype},
                         {in.output, w.qkv, a.projections}, {in.task});
  if (k.decay_rank == k.gate_rank && k.k_dim == k.v_dim) {
    return g.add(n.id, Stage::qkv, BatchedGemm{2, rows, k.k_width(), k.decay_rank, dtype},
                 {a.projections, w.gates, a.gated}, {t});
  }
  const TaskId decay = g.add(n.id, Stage::qkv, Gemm{rows, k.k_width(), k.decay_rank, dtype},
                             {a.projections, w.gates, a.gated}, {t});
  return g.add(n.id, Stage::qkv, Gemm{rows, k.v_width(), k.gate_rank, dtype},
               {a.projections, w.gates, a.gated}, {decay});
}

/// Gated norm and O-projection. RMSNorm(o) sigmoid(gate) reads and writes what SwiGLU of gate and o does.
TaskId project_out(GraphBuilder& g, const CompNode& n, const KdaShape& k, std::int64_t rows,
                   std::vector<TaskId> after) {
  const TaskId t =
      g.add(n.id, Stage::o_proj, Activation{rows, k.v_width(), ActivationKind::swiglu, g.model.dtype},
            {n.linear.gated, n.linear.attended}, std::move(after));
  return g.add(n.id, Stage::o_proj, Gemm{rows, g.model.hidden, k.v_width(), g.model.dtype},
               {n.linear.attended, n.weights(g).o, n.branch}, {t});
}

}  // namespace

void add_linear_weights(GraphBuilder& g, std::uint32_t node, const KdaShape& k, LayerWeights& weights) {
  const std::int64_t e = g.element_bytes(), hidden = g.model.hidden;
  const auto weight = [&](std::int64_t elements, const char* name) {
    return g.buffer(node, elements * e, fmt::format("{}.{}", name, g.layer), true);
  };
  weights.qkv = weight(projected_width(k) * hidden, "q, k, v, strength, low ranks");
  // With the gated norm's weight.
  weights.gates = weight(k.k_width() * k.decay_rank + k.v_width() * k.gate_rank + k.v_dim, "decay and gate");
  weights.o = weight(k.v_width() * hidden, "o");
}

LinearActivations linear_activations(GraphBuilder& g, std::uint32_t node, std::int64_t rows) {
  if (largest<KdaShape>(g.model, projected_width) == 0) return {};
  const std::int64_t row = rows * g.element_bytes();
  LinearActivations a;
  a.projections = g.buffer(node, row * largest<KdaShape>(g.model, projected_width), "q, k, v, strength");
  a.gated = g.buffer(
      node, row * largest<KdaShape>(g.model, [](const KdaShape& k) { return k.k_width() + 2 * k.v_width(); }),
      "decay, gate, attention output");
  a.attended = g.buffer(node, row * largest<KdaShape>(g.model, [](const KdaShape& k) { return k.v_width(); }),
                        "gated output");
  return a;
}

// On one node.

LinearOnOneNode::LinearOnOneNode(GraphBuilder& g, const CompNode& node)
    : g_{g},
      n_{node},
      heads_{linear_heads(g, node.id, g.workload.prefill_tokens * g.workload.batch,
                          [](const KdaShape& k) { return k; })} {}

TaskId LinearOnOneNode::run(const KdaShape& k, std::int64_t rows, TaskId after) {
  const LinearActivations& a = n_.linear;
  TaskId t = project(g_, n_, k, rows, after);
  t = run_heads(g_, n_.id, k, heads_, a.projections, a.gated, a.gated, {t});
  return project_out(g_, n_, k, rows, {t});
}

// Over AttnNodes.

LinearOverNodes::LinearOverNodes(GraphBuilder& g, const Placement& placement,
                                 const std::vector<CompNode>& comp)
    : g_{g}, p_{placement}, comp_{comp} {
  if (largest<KdaShape>(g.model, projected_width) == 0) return;
  const std::int64_t rows = g.workload.prefill_tokens * g.workload.batch;
  nodes_.resize(std::size_t{p_.beta} * p_.beta);
  for (std::uint32_t a = 0; a < nodes_.size(); ++a) {
    const auto mine = [&](auto size) {
      return largest<KdaShape>(g.model, [&](const KdaShape& k) { return size(part(k, a)); });
    };
    if (mine(sent_width) == 0) continue;
    AttnNode& n = nodes_[a];
    n.received = g.buffer(id(a), rows * mine(sent_width) * g.element_bytes(), "received q, k, v, decay");
    n.out = g.buffer(id(a), rows * mine([](const KdaShape& k) { return k.v_width(); }) * g.element_bytes(),
                     "output");
    n.heads = linear_heads(g, id(a), rows, [&](const KdaShape& k) { return part(k, a); });
  }
}

KdaShape LinearOverNodes::part(const KdaShape& shape, std::uint32_t a) const {
  const auto nodes = static_cast<std::int64_t>(std::size_t{p_.beta} * p_.beta);
  KdaShape part = shape;
  part.heads = shape.heads * (a + 1) / nodes - shape.heads * a / nodes;
  return part;
}

void LinearOverNodes::send(const KdaShape& k, std::uint32_t i, std::int64_t rows, TaskId ready,
                           TasksByNode& received) {
  for (std::uint32_t a = 0; a < nodes_.size(); ++a) {
    const std::int64_t bytes = rows * sent_width(part(k, a)) * g_.element_bytes();
    if (bytes > 0) received[a].push_back(g_.send(i, id(a), Stage::send, bytes, {ready}));
  }
}

TaskId LinearOverNodes::recur(const KdaShape& part, std::uint32_t a, std::vector<TaskId> after) {
  const AttnNode& n = nodes_[a];
  return run_heads(g_, id(a), part, n.heads, n.received, n.received, n.out, std::move(after));
}

void LinearOverNodes::prefill(const KdaShape& k, const std::vector<TaskId>& ready) {
  const std::int64_t batch = g_.workload.batch;
  TasksByNode received(nodes_.size());
  for (std::uint32_t i = 0; i < p_.alpha; ++i) {
    if (p_.r[i].empty()) continue;
    const std::int64_t rows = p_.r_rows(i) * batch;
    send(k, i, rows, project(g_, comp_[i], k, rows, ready[i]), received);
  }
  returned_.assign(p_.alpha, {});
  for (std::uint32_t a = 0; a < nodes_.size(); ++a) {
    const KdaShape mine = part(k, a);
    if (mine.heads == 0) continue;
    const TaskId t = recur(mine, a, std::move(received[a]));
    for (std::uint32_t i = 0; i < p_.alpha; ++i) {
      if (p_.r[i].empty()) continue;
      const std::int64_t bytes = p_.r_rows(i) * batch * mine.v_width() * g_.element_bytes();
      returned_[i].push_back(g_.send(id(a), i, Stage::returns, bytes, {t}));
    }
  }
}

TaskId LinearOverNodes::finish(const KdaShape& k, std::uint32_t i) {
  return project_out(g_, comp_[i], k, p_.r_rows(i) * g_.workload.batch, returned_[i]);
}

TaskId LinearOverNodes::decode(const KdaShape& k, std::uint32_t i, std::int64_t, TaskId after) {
  const std::int64_t batch = g_.workload.batch;
  TasksByNode received(nodes_.size());
  send(k, i, batch, project(g_, comp_[i], k, batch, after), received);
  std::vector<TaskId> returned;
  for (std::uint32_t a = 0; a < nodes_.size(); ++a) {
    const KdaShape mine = part(k, a);
    if (mine.heads == 0) continue;
    const TaskId t = recur(mine, a, std::move(received[a]));
    returned.push_back(g_.send(id(a), i, Stage::returns, batch * mine.v_width() * g_.element_bytes(), {t}));
  }
  return project_out(g_, comp_[i], k, batch, std::move(returned));
}

}  // namespace tessera::models
