#include "models/dataflow/linear_block.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace tessera::models {

namespace linear {

namespace {

/// Of a hidden row's first projection: q, k, v, strengths, and the low ranks of decay and gate.
std::int64_t projected_width(const KdaShape& k) {
  return qkv_width(k) + k.heads + k.decay_rank + k.gate_rank;
}

}  // namespace

std::int64_t qkv_width(const KdaShape& k) { return 2 * k.k_width() + k.v_width(); }
std::int64_t sent_width(const KdaShape& k) { return qkv_width(k) + k.k_width() + k.heads; }

LinearAttention chunked(const GraphBuilder& g, const KdaShape& k) {
  return {.rule = kKda,
          .batch = g.workload.batch,
          .seq = g.workload.new_tokens(),
          .heads = k.heads,
          .k_dim = k.k_dim,
          .v_dim = k.v_dim,
          .initial_state = g.workload.cached_tokens > 0,
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

CausalConv1d convolution(const GraphBuilder& g, const KdaShape& k, std::int64_t seq) {
  const bool alike = k.k_dim == k.v_dim;
  return {.batch = g.workload.batch,
          .seq = seq,
          .channels = alike ? k.k_width() : qkv_width(k),
          .convs = alike ? 3 : 1,
          .taps = k.taps,
          .update = g.step >= 0,
          .dtype = g.model.dtype};
}

LinearHeads heads(GraphBuilder& g, std::uint32_t node, std::int64_t rows, const std::vector<KdaShape>& shapes,
                  bool states) {
  LinearHeads h;
  h.weights.resize(shapes.size());
  h.state.resize(shapes.size());
  h.conv_past.resize(shapes.size());
  const std::int64_t e = g.element_bytes(), batch = g.workload.batch;
  std::int64_t mixed = 0, state = 0, past = 0;
  for (std::size_t l = 0; l < shapes.size(); ++l) {
    const KdaShape& k = shapes[l];
    if (k.heads == 0) continue;
    mixed = std::max(mixed, qkv_width(k));
    h.weights[l] = g.buffer(node, (k.taps * qkv_width(k) + k.heads + k.k_width()) * e,
                            fmt::format("convolution and decay.{}", l), true);
    state = std::max(state, batch * state_bytes(step(g, k)));
    past = std::max(past, batch * state_bytes(convolution(g, k, 1)));
    if (!states) continue;
    h.state[l] = g.buffer(node, batch * state_bytes(step(g, k)), fmt::format("state.{}", l));
    h.conv_past[l] =
        g.buffer(node, batch * state_bytes(convolution(g, k, 1)), fmt::format("convolution state.{}", l));
  }
  if (mixed == 0) return h;
  h.mixed = g.buffer(node, rows * mixed * e, "convolved q, k, v");
  if (states) return h;
  h.state.assign(shapes.size(), g.buffer(node, state, "state"));
  h.conv_past.assign(shapes.size(), g.buffer(node, past, "convolution state"));
  return h;
}

TaskId recur(GraphBuilder& g, std::uint32_t node, const KdaShape& k, const LinearHeads& h, BufferId in,
             BufferId decay, BufferId out, std::vector<TaskId> after) {
  const auto l = static_cast<std::size_t>(g.layer);
  const BufferId past = h.conv_past[l], state = h.state[l];
  if (g.step < 0) {
    const LinearAttention attention = chunked(g, k);
    const TaskId t = g.add(node, Stage::qkv, convolution(g, k, attention.seq),
                           {in, h.weights[l], h.mixed, past}, std::move(after));
    std::vector<BufferId> operands{h.mixed, h.mixed, h.mixed, decay, in};
    if (attention.initial_state) operands.push_back(state);
    operands.insert(operands.end(), {out, state});
    return g.add(node, Stage::attention, attention, std::move(operands), {t});
  }
  const TaskId t = g.add(node, Stage::qkv, convolution(g, k, 1), {in, h.weights[l], past, h.mixed, past},
                         std::move(after));
  return g.add(node, Stage::attention, step(g, k), {h.mixed, h.mixed, h.mixed, decay, in, state, out, state},
               {t});
}

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

TaskId project_out(GraphBuilder& g, const CompNode& n, const KdaShape& k, std::int64_t rows,
                   std::vector<TaskId> after) {
  const TaskId t =
      g.add(n.id, Stage::o_proj, Activation{rows, k.v_width(), ActivationKind::swiglu, g.model.dtype},
            {n.linear.gated, n.linear.attended}, std::move(after));
  return g.add(n.id, Stage::o_proj, Gemm{rows, g.model.hidden, k.v_width(), g.model.dtype},
               {n.linear.attended, n.weights(g).o, n.branch}, {t});
}

}  // namespace linear

void add_linear_weights(GraphBuilder& g, std::uint32_t node, const KdaShape& k, LayerWeights& weights) {
  const std::int64_t e = g.element_bytes(), hidden = g.model.hidden;
  const auto weight = [&](std::int64_t elements, const char* name) {
    return g.buffer(node, elements * e, fmt::format("{}.{}", name, g.layer), true);
  };
  weights.qkv = weight(linear::projected_width(k) * hidden, "q, k, v, strength, low ranks");
  // With the gated norm's weight.
  weights.gates = weight(k.k_width() * k.decay_rank + k.v_width() * k.gate_rank + k.v_dim, "decay and gate");
  weights.o = weight(k.v_width() * hidden, "o");
}

LinearActivations linear_activations(GraphBuilder& g, std::uint32_t node, std::int64_t rows) {
  if (largest<KdaShape>(g.model, linear::projected_width) == 0) return {};
  const std::int64_t row = rows * g.element_bytes();
  LinearActivations a;
  a.projections =
      g.buffer(node, row * largest<KdaShape>(g.model, linear::projected_width), "q, k, v, strength");
  a.gated = g.buffer(
      node, row * largest<KdaShape>(g.model, [](const KdaShape& k) { return k.k_width() + 2 * k.v_width(); }),
      "decay, gate, attention output");
  a.attended = g.buffer(node, row * largest<KdaShape>(g.model, [](const KdaShape& k) { return k.v_width(); }),
                        "gated output");
  return a;
}

}  // namespace tessera::models
