#include "models/dataflow/comp_node.hpp"

#include "models/architecture/overloaded.hpp"
#include "models/dataflow/dense_attention.hpp"
#include "models/dataflow/latent_attention.hpp"
#include "models/dataflow/linear_attention.hpp"
#include "models/dataflow/mlp.hpp"

namespace tessera::models {

namespace {

/// The weights of the current layer, by its kinds.
LayerWeights layer_weights(GraphBuilder& g, std::uint32_t node) {
  LayerWeights w;
  std::visit(Overloaded{[&](const DenseShape& d) { add_dense_weights(g, node, d, w); },
                        [&](const MobaShape& d) { add_dense_weights(g, node, d.dense, w); },
                        [&](const MlaShape& d) { add_latent_weights(g, node, d, w); },
                        [&](const KdaShape& d) { add_linear_weights(g, node, d, w); }},
             g.current().attention);
  std::visit(Overloaded{[&](const MlpShape& m) { add_mlp_weights(g, node, m, w); },
                        [](const MoeShape&) {}},  // MixtureOfExperts has them
             g.current().feed_forward);
  return w;
}

}  // namespace

CompNode comp_node(GraphBuilder& g, std::uint32_t id, std::int64_t rows, std::int64_t parts) {
  const Architecture& m = g.model;
  const std::int64_t e = g.element_bytes();
  CompNode n{.id = id};
  n.table = g.buffer(id, m.vocab * m.hidden * e, "embedding", true);
  n.head =
      m.language_head && !m.tied_embeddings ? g.buffer(id, m.vocab * m.hidden * e, "head", true) : n.table;
  n.norm = g.buffer(id, m.hidden * e, "norm", true);
  for (g.layer = 0; g.layer < m.layer_count(); ++g.layer) n.layers.push_back(layer_weights(g, id));
  g.layer = -1;
  n.hidden = g.buffer(id, rows * m.hidden * e, "hidden");
  n.normed = g.buffer(id, rows * m.hidden * e, "normed");
  n.dense = dense_activations(g, id, rows, parts);
  n.latent = latent_activations(g, id, rows, parts);
  n.linear = linear_activations(g, id, rows);
  n.branch = g.buffer(id, rows * m.hidden * e, "branch output");
  n.mlp = mlp_activations(g, id, rows);
  n.logits = g.buffer(id, g.workload.batch * m.vocab * e, "logits");
  return n;
}

TaskId embed(GraphBuilder& g, const CompNode& n, std::int64_t rows, std::vector<TaskId> after) {
  g.layer = -1;
  const TaskId id = g.add(n.id, Stage::embed, Embedding{rows, g.model.hidden, g.model.dtype},
                          {n.table, n.hidden}, std::move(after));
  g.graph.tasks[id].host_us =
      g.workload.host_step_us + g.workload.host_sequence_us * static_cast<double>(g.workload.batch);
  return id;
}

Normed attention_norm(GraphBuilder& g, const CompNode& n, std::int64_t rows, TaskId after) {
  const Architecture& m = g.model;
  if (m.post_norm) return {after, n.hidden};
  // From the second layer on, the previous layer's output is added to the residual stream here.
  const bool residual = g.layer > 0;
  const Norm norm{rows, m.hidden, m.norm, residual, m.dtype};
  const TaskId t =
      residual ? g.add(n.id, Stage::norm, norm, {n.branch, n.hidden, n.norm, n.normed, n.hidden}, {after})
               : g.add(n.id, Stage::norm, norm, {n.hidden, n.norm, n.normed}, {after});
  return {t, n.normed};
}

TaskId language_head(GraphBuilder& g, const CompNode& n, TaskId after) {
  const Architecture& m = g.model;
  const std::int64_t rows = g.workload.batch;
  g.layer = -1;
  if (!m.language_head) return after;
  const TaskId t = g.add(n.id, Stage::head, Norm{rows, m.hidden, m.norm, true, m.dtype},
                         {n.branch, n.hidden, n.norm, n.normed, n.hidden}, {after});
  return g.add(n.id, Stage::head, Gemm{rows, m.vocab, m.hidden, m.dtype}, {n.normed, n.head, n.logits}, {t});
}

}  // namespace tessera::models
