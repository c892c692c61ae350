#include "models/dataflow/dense_attention.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

namespace tessera::models {

namespace {

std::int64_t projected_width(const DenseShape& d) { return d.q_width() + 2 * d.kv_width(); }

/// What a layer has of dense attention: MoBA all but the choice of keys. Null if nothing.
const DenseShape* dense_part(const AttentionShape& attention) {
  if (const auto* moba = std::get_if<MobaShape>(&attention)) return &moba->dense;
  return std::get_if<DenseShape>(&attention);
}

/// The largest over the model's dense and MoBA layers; 0 if it has none.
template <class Size>
std::int64_t largest_dense(const Architecture& model, Size size) {
  std::int64_t most = 0;
  for (const Layer& l : model.layers) {
    if (const auto* dense = dense_part(l.attention)) most = std::max(most, size(*dense));
  }
  return most;
}

/// A k, v cache of `tokens` rows for every dense or MoBA layer; none if the model never decodes.
std::vector<BufferId> caches(GraphBuilder& g, std::uint32_t node, std::int64_t tokens) {
  std::vector<BufferId> ids(g.model.layers.size());
  if (!g.keeps_cache()) return ids;
  for (std::size_t l = 0; l < ids.size(); ++l) {
    if (const auto* dense = dense_part(g.model.layers[l].attention)) {
      ids[l] = g.buffer(node, 2 * tokens * dense->kv_width() * g.element_bytes() * g.workload.batch,
                        fmt::format("k, v cache.{}", l));
    }
  }
  return ids;
}

/// Appends `rows` new rows of k and v, which lie in `projections`, to a layer's cache.
TaskId append(GraphBuilder& g, const DenseShape& d, std::uint32_t node, BufferId projections, BufferId cache,
              std::int64_t rows, std::vector<TaskId> after) {
  return g.add(node, Stage::cache, Copy{2 * rows * d.kv_width() * g.element_bytes()}, {projections, cache},
               std::move(after));
}

/// Norm, q, k, v projection and rotation of `rows` rows.
TaskId project(GraphBuilder& g, const CompNode& n, const DenseShape& d, std::int64_t rows, TaskId after) {
  const Architecture& m = g.model;
  const Normed in = attention_norm(g, n, rows, after);
  const BufferId projections = n.dense.projections;
  TaskId t = g.add(n.id, Stage::qkv, Gemm{rows, projected_width(d), m.hidden, m.dtype},
                   {in.output, n.weights(g).qkv, projections}, {in.task});
  if (d.qk_norm) {
    t = g.add(n.id, Stage::rope,
              Norm{rows * (d.heads + d.kv_heads), d.head_dim, NormKind::rms, false, m.dtype},
              {projections, n.norm, projections}, {t});
  }
  if (d.rope) {
    t = g.add(n.id, Stage::rope, Rope{rows, d.heads, d.kv_heads, d.head_dim, m.dtype},
              {projections, projections, projections, projections}, {t});
  }
  return t;
}

/// `attended`: the buffer that holds the attention's result.
TaskId project_out(GraphBuilder& g, const CompNode& n, const DenseShape& d, BufferId attended,
                   std::int64_t rows, std::vector<TaskId> after) {
  return g.add(n.id, Stage::o_proj, Gemm{rows, g.model.hidden, d.q_width(), g.model.dtype},
               {attended, n.weights(g).o, n.branch}, std::move(after));
}

}  // namespace

void add_dense_weights(GraphBuilder& g, std::uint32_t node, const DenseShape& shape, LayerWeights& weights) {
  // A window that is wider than the sequence hides nothing.
  if (shape.window > 0 && shape.window < g.tokens()) {
    g.not_built(fmt::format("a sliding window of {} tokens, fewer than the {} of the workload", shape.window,
                            g.tokens()));
  }
  const std::int64_t row = g.model.hidden * g.element_bytes();
  weights.qkv = g.buffer(node, projected_width(shape) * row, fmt::format("qkv.{}", g.layer), true);
  weights.o = g.buffer(node, shape.q_width() * row, fmt::format("o.{}", g.layer), true);
}

DenseActivations dense_activations(GraphBuilder& g, std::uint32_t node, std::int64_t rows,
                                   std::int64_t parts) {
  const std::int64_t heads = largest_dense(g.model, [](const DenseShape& d) { return d.heads; });
  if (heads == 0) return {};
  const std::int64_t q_row =
      largest_dense(g.model, [](const DenseShape& d) { return d.q_width(); }) * g.element_bytes();
  DenseActivations a;
  a.projections =
      g.buffer(node, rows * largest_dense(g.model, projected_width) * g.element_bytes(), "q, k, v");
  a.parts = g.buffer(node, parts * rows * q_row, "partial outputs");
  a.stats = g.buffer(node, parts * rows * heads * kStatsBytes, "partial max and expsum");
  a.attended = g.buffer(node, rows * q_row, "attention output");
  return a;
}

// On one node.

DenseOnOneNode::DenseOnOneNode(GraphBuilder& g, const CompNode& node)
    : g_{g}, n_{node}, cache_{caches(g, node.id, g.tokens())} {}

TaskId DenseOnOneNode::run(const DenseShape& d, std::int64_t rows, TaskId after) {
  const Architecture& m = g_.model;
  const Workload& w = g_.workload;
  if (g_.step < 0) {
    return run(d, rows, after,
               Attention{.batch = w.batch,
                         .q_rows = w.new_tokens(),
                         .kv_rows = w.prefill_tokens,
                         .heads = d.heads,
                         .kv_heads = d.kv_heads,
                         .head_dim = d.head_dim,
                         .causal = m.causal,
                         .dtype = m.dtype});
  }
  return run(d, rows, after,
             AttentionDecode{.batch = w.batch,
                             .context = w.prefill_tokens + g_.step + 1,
                             .heads = d.heads,
                             .kv_heads = d.kv_heads,
                             .head_dim = d.head_dim,
                             .dtype = m.dtype});
}

TaskId DenseOnOneNode::run(const DenseShape& d, std::int64_t rows, TaskId after, Operator attention) {
  const BufferId cache = cache_[static_cast<std::size_t>(g_.layer)];
  const BufferId projections = n_.dense.projections;
  TaskId t = project(g_, n_, d, rows, after);
  if (g_.keeps_cache()) t = append(g_, d, n_.id, projections, cache, rows, {t});
  // The keys of a whole prompt are all at hand; else they are in the cache, the new ones included.
  const BufferId kv = g_.step < 0 && g_.workload.cached_tokens == 0 ? projections : cache;
  t = g_.add(n_.id, Stage::attention, std::move(attention), {projections, kv, kv, n_.dense.attended}, {t});
  return project_out(g_, n_, d, n_.dense.attended, rows, {t});
}

TaskId DenseOnOneNode::begin(const DenseShape& d, std::int64_t rows, TaskId after) {
  const TaskId t = project(g_, n_, d, rows, after);
  return g_.keeps_cache() ? append(g_, d, n_.id, n_.dense.projections, cache(), rows, {t}) : t;
}

TaskId DenseOnOneNode::end(const DenseShape& d, std::int64_t rows, TaskId attended) {
  return project_out(g_, n_, d, n_.dense.attended, rows, {attended});
}

// Over AttnNodes.

DenseOverNodes::DenseOverNodes(GraphBuilder& g, const Placement& placement, const std::vector<CompNode>& comp)
    : g_{g}, p_{placement}, comp_{comp} {
  const std::int64_t heads = largest_dense(g.model, [](const DenseShape& d) { return d.heads; });
  if (heads == 0) return;
  const std::int64_t q_width = largest_dense(g.model, [](const DenseShape& d) { return d.q_width(); });
  const std::int64_t kv_width = largest_dense(g.model, [](const DenseShape& d) { return d.kv_width(); });
  const std::int64_t e = g.element_bytes(), batch = g.workload.batch;
  for (const auto& set : p_.s) positions_.push_back(std::make_shared<const std::vector<std::int32_t>>(set));
  for (const auto& set : p_.kept) kept_.push_back(std::make_shared<const std::vector<std::int32_t>>(set));
  nodes_.resize(std::size_t{p_.beta} * p_.beta);
  for (std::uint32_t j = 0; j < p_.beta; ++j) {
    for (std::uint32_t k = 0; k < p_.beta; ++k) {
      AttnNode& n = own(j, k);
      const std::uint32_t id = p_.attn(j, k);
      const std::int64_t rows = std::max<std::int64_t>(1, p_.s_rows(j)) * batch;
      const std::int64_t kv_rows = std::max<std::int64_t>(1, p_.s_rows(k)) * batch;
      n.received = g.buffer(id, (rows * q_width + 2 * kv_rows * kv_width) * e, "q, k, v");
      n.out = g.buffer(id, rows * q_width * e, "partial output");
      n.stats = g.buffer(id, rows * heads * kStatsBytes, "partial max and expsum");
      n.cache = caches(g, id, static_cast<std::int64_t>(p_.sharding.s.sets[k].size()));
      n.appended.resize(g.model.layers.size());
    }
  }
}

RowBytes DenseOverNodes::row_bytes(const DenseShape& d) const {
  const std::int64_t e = g_.element_bytes();
  return {d.q_width() * e, 2 * d.kv_width() * e, d.q_width() * e + d.heads * kStatsBytes};
}

void DenseOverNodes::distribute(const DenseShape& d, const std::vector<TaskId>& ready) {
  TasksByNode received(nodes_.size());
  for (std::uint32_t i = 0; i < p_.alpha; ++i) {
    if (p_.r[i].empty()) continue;
    send_rows(g_, p_, i, project(g_, comp_[i], d, p_.r_rows(i) * g_.workload.batch, ready[i]), row_bytes(d),
              received);
  }
  for (std::size_t n = 0; n < nodes_.size(); ++n) nodes_[n].arrived = std::move(received[n]);
  returned_.assign(p_.alpha, {});
}

void DenseOverNodes::keep(const DenseShape& d, std::uint32_t j, std::uint32_t k) {
  if (!g_.keeps_cache() || p_.s[k].empty()) return;
  AttnNode& n = own(j, k);
  const auto l = static_cast<std::size_t>(g_.layer);
  n.arrived.push_back(
      append(g_, d, p_.attn(j, k), n.received, n.cache[l], p_.s_rows(k) * g_.workload.batch, n.arrived));
  n.appended[l] = {n.arrived.back()};
}

BufferId DenseOverNodes::keys(std::uint32_t j, std::uint32_t k) const {
  const AttnNode& n = node(j, k);
  return g_.workload.cached_tokens > 0 ? n.cache[static_cast<std::size_t>(g_.layer)] : n.received;
}

void DenseOverNodes::give_back(const DenseShape& d, std::uint32_t j, std::uint32_t k, TaskId attended) {
  return_rows(g_, p_, j, k, attended, row_bytes(d), returned_);
}

void DenseOverNodes::prefill(const DenseShape& d, const std::vector<TaskId>& ready) {
  const Architecture& m = g_.model;
  distribute(d, ready);
  for (std::uint32_t j = 0; j < p_.beta; ++j) {
    for (std::uint32_t k = 0; k < p_.beta; ++k) {
      keep(d, j, k);
      if (!p_.sees(j, k)) continue;
      const AttnNode& n = node(j, k);
      Attention a{.batch = g_.workload.batch,
                  .q_rows = p_.s_rows(j),
                  .kv_rows = p_.kept_rows(k),
                  .heads = d.heads,
                  .kv_heads = d.kv_heads,
                  .head_dim = d.head_dim,
                  .causal = m.causal,
                  .partial = true,
                  .dtype = m.dtype};
      if (m.causal) {
        a.q_positions = positions_[j];
        a.kv_positions = kept_[k];
      }
      give_back(d, j, k,
                g_.add(p_.attn(j, k), Stage::attention, a,
                       {n.received, keys(j, k), keys(j, k), n.out, n.stats}, n.arrived));
    }
  }
}

TaskId DenseOverNodes::finish(const DenseShape& d, std::uint32_t i) {
  const CompNode& n = comp_[i];
  const DenseActivations& a = n.dense;
  const Merged merged =
      merge_rows(g_, p_, i, returned_[i], d.heads, d.head_dim, {a.parts, a.stats, a.attended});
  return project_out(g_, n, d, merged.output, p_.r_rows(i) * g_.workload.batch, merged.after);
}

TaskId DenseOverNodes::decode(const DenseShape& d, std::uint32_t i, std::int64_t token, TaskId after) {
  const CompNode& n = comp_[i];
  const std::int64_t batch = g_.workload.batch;
  const auto l = static_cast<std::size_t>(g_.layer);
  const auto j = static_cast<std::uint32_t>(p_.s_owner[static_cast<std::size_t>(token)]);
  const RowBytes row_size = row_bytes(d);
  const SentToken sent = send_token(g_, p_, i, token, project(g_, n, d, batch, after), row_size);
  for (std::uint32_t row = 0; row < p_.beta; ++row) {
    AttnNode& a = own(row, j);
    a.appended[l].push_back(append(g_, d, p_.attn(row, j), a.received, a.cache[l], batch, {sent.kept[row]}));
  }
  std::vector<TaskId> returned;
  for (std::uint32_t k = 0; k < p_.beta; ++k) {
    AttnNode& a = own(j, k);
    const std::int64_t context = p_.context(k, token);
    if (context == 0) continue;
    std::vector<TaskId> waits = std::move(a.appended[l]);
    a.appended[l].clear();
    waits.push_back(sent.query[k]);
    const TaskId attended = g_.add(p_.attn(j, k), Stage::attention,
                                   AttentionDecode{.batch = batch,
                                                   .context = context,
                                                   .heads = d.heads,
                                                   .kv_heads = d.kv_heads,
                                                   .head_dim = d.head_dim,
                                                   .partial = true,
                                                   .dtype = g_.model.dtype},
                                   {a.received, a.cache[l], a.cache[l], a.out, a.stats}, std::move(waits));
    returned.push_back(g_.send(p_.attn(j, k), i, Stage::returns, row_size.result * batch, {attended}));
  }
  const Merged merged = merge_token(g_, i, std::move(returned), d.heads, d.head_dim,
                                    {n.dense.parts, n.dense.stats, n.dense.attended});
  return project_out(g_, n, d, merged.output, batch, merged.after);
}

}  // namespace tessera::models
