#include "models/dataflow/latent_attention.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

namespace tessera::models {

namespace {

constexpr std::int64_t kRequestBytes = 8;  // for cached rows: from which position on

std::int64_t query_width(const MlaShape& m) { return m.heads * m.qk_dim(); }
std::int64_t value_width(const MlaShape& m) { return m.heads * m.v_dim; }
std::int64_t absorbed_width(const MlaShape& m) { return m.heads * m.kv_lora; }
/// The hidden row's projections of low rank: of the query, if it has one, and the latent row.
std::int64_t low_width(const MlaShape& m) { return m.q_lora + m.latent_width(); }
std::int64_t up_width(const MlaShape& m) { return m.heads * (m.nope + m.v_dim); }

/// A result on the wire, of a prompt's row and of a decoded token.
RowBytes prompt_row(const GraphBuilder& g, const MlaShape& m) {
  const std::int64_t e = g.element_bytes();
  return {query_width(m) * e, m.latent_width() * e, value_width(m) * e + m.heads * kStatsBytes};
}
RowBytes token_row(const GraphBuilder& g, const MlaShape& m) {
  const std::int64_t e = g.element_bytes();
  return {m.heads * m.latent_width() * e, m.latent_width() * e,
          absorbed_width(m) * e + m.heads * kStatsBytes};
}

/// A cache of `tokens` latent rows for every MLA layer; none if the model never decodes.
std::vector<BufferId> caches(GraphBuilder& g, std::uint32_t node, std::int64_t tokens) {
  std::vector<BufferId> ids(g.model.layers.size());
  if (!g.keeps_cache()) return ids;
  for (std::size_t l = 0; l < ids.size(); ++l) {
    if (const auto* mla = std::get_if<MlaShape>(&g.model.layers[l].attention)) {
      ids[l] = g.buffer(node, tokens * mla->latent_width() * g.element_bytes() * g.workload.batch,
                        fmt::format("latent cache.{}", l));
    }
  }
  return ids;
}

/// W_uk and W_uv of every head.
BufferId up_weights(GraphBuilder& g, std::uint32_t node, const MlaShape& m, std::size_t layer) {
  return g.buffer(node, up_width(m) * m.kv_lora * g.element_bytes(), fmt::format("latent up.{}", layer),
                  true);
}

Expansion expansion(GraphBuilder& g, std::uint32_t node, std::int64_t rows) {
  const std::int64_t row = rows * g.element_bytes();
  // The keys are also counted as read from `up`, which holds most of them.
  return {g.buffer(node,
                   row * largest<MlaShape>(
                             g.model, [](const auto& m) { return std::max(up_width(m), query_width(m)); }),
                   "keys and values"),
          g.buffer(node, row * largest<MlaShape>(g.model, query_width), "whole keys")};
}

/// Appends `rows` new latent rows to a layer's cache.
TaskId append(GraphBuilder& g, const MlaShape& m, std::uint32_t node, BufferId rows_at, BufferId cache,
              std::int64_t rows, std::vector<TaskId> after) {
  return g.add(node, Stage::cache, Copy{rows * m.latent_width() * g.element_bytes()}, {rows_at, cache},
               std::move(after));
}

/// Keys and values of `rows` latent rows: up-projection, and the shared part of the key to every head's.
TaskId expand(GraphBuilder& g, const MlaShape& m, std::uint32_t node, BufferId latents, BufferId weights,
              const Expansion& to, std::int64_t rows, std::vector<TaskId> after) {
  const TaskId t = g.add(node, Stage::qkv, Gemm{rows, up_width(m), m.kv_lora, g.model.dtype},
                         {latents, weights, to.up}, std::move(after));
  return g.add(node, Stage::qkv, Copy{rows * query_width(m) * g.element_bytes()}, {to.up, to.keys}, {t});
}

LatentAttention naive(const GraphBuilder& g, const MlaShape& m, std::int64_t q_rows, std::int64_t kv_rows) {
  return {.batch = g.workload.batch,
          .q_rows = q_rows,
          .kv_rows = kv_rows,
          .heads = m.heads,
          .nope = m.nope,
          .rope = m.rope,
          .value = m.v_dim,
          .causal = g.model.causal,
          .dtype = g.model.dtype};
}
LatentDecode absorbed(const GraphBuilder& g, const MlaShape& m, std::int64_t context, bool partial) {
  return {.batch = g.workload.batch,
          .context = context,
          .heads = m.heads,
          .latent = m.kv_lora,
          .rope = m.rope,
          .partial = partial,
          .dtype = g.model.dtype};
}

/// Norm, projections and rotation of `rows` rows: queries, and what is kept of each token.
TaskId project(GraphBuilder& g, const CompNode& n, const MlaShape& m, std::int64_t rows, TaskId after) {
  const Architecture& model = g.model;
  const LayerWeights& w = n.weights(g);
  const LatentActivations& a = n.latent;
  const Normed in = attention_norm(g, n, rows, after);
  // One product for both low ranks, as SGLang's fused_qkv_a_proj_with_mqa.
  TaskId t = g.add(n.id, Stage::qkv, Gemm{rows, low_width(m), model.hidden, model.dtype},
                   {in.output, w.latent, a.low}, {in.task});
  if (m.q_lora > 0) {
    t = g.add(n.id, Stage::qkv, Norm{rows, m.q_lora, NormKind::rms, false, model.dtype},
              {a.low, w.latent_norms, a.low}, {t});
    t = g.add(n.id, Stage::qkv, Gemm{rows, query_width(m), m.q_lora, model.dtype}, {a.low, w.query, a.query},
              {t});
  } else {
    t = g.add(n.id, Stage::qkv, Gemm{rows, query_width(m), model.hidden, model.dtype},
              {in.output, w.query, a.query}, {t});
  }
  t = g.add(n.id, Stage::qkv, Norm{rows, m.kv_lora, NormKind::rms, false, model.dtype},
            {a.low, w.latent_norms, a.low}, {t});
  if (m.rotated) {
    t = g.add(n.id, Stage::rope, Rope{rows, m.heads, 1, m.rope, model.dtype},
              {a.query, a.low, a.query, a.low}, {t});
  }
  return t;
}

/// q W_uk of one decoded token of each sequence.
TaskId absorb(GraphBuilder& g, const CompNode& n, const MlaShape& m, TaskId after) {
  return g.add(n.id, Stage::qkv, BatchedGemm{m.heads, g.workload.batch, m.kv_lora, m.nope, g.model.dtype},
               {n.latent.query, n.weights(g).latent_up, n.latent.absorbed}, {after});
}

/// From `attended`, the buffer that holds the attention's result: latent, if `latent`, and then W_uv first.
TaskId project_out(GraphBuilder& g, const CompNode& n, const MlaShape& m, BufferId attended, bool latent,
                   std::int64_t rows, std::vector<TaskId> after) {
  if (latent) {
    after = {g.add(n.id, Stage::o_proj, BatchedGemm{m.heads, rows, m.v_dim, m.kv_lora, g.model.dtype},
                   {attended, n.weights(g).latent_up, n.latent.attended}, std::move(after))};
    attended = n.latent.attended;
  }
  return g.add(n.id, Stage::o_proj, Gemm{rows, g.model.hidden, value_width(m), g.model.dtype},
               {attended, n.weights(g).o, n.branch}, std::move(after));
}

}  // namespace

void add_latent_weights(GraphBuilder& g, std::uint32_t node, const MlaShape& m, LayerWeights& weights) {
  const std::int64_t e = g.element_bytes(), hidden = g.model.hidden;
  const auto weight = [&](std::int64_t elements, const char* name) {
    return g.buffer(node, elements * e, fmt::format("{}.{}", name, g.layer), true);
  };
  weights.latent = weight(low_width(m) * hidden, "latent down");
  weights.latent_norms = weight(m.q_lora + m.kv_lora, "latent norms");
  weights.query = weight(query_width(m) * (m.q_lora > 0 ? m.q_lora : hidden), "query");
  weights.latent_up = up_weights(g, node, m, static_cast<std::size_t>(g.layer));
  weights.o = weight(value_width(m) * hidden, "o");
}

LatentActivations latent_activations(GraphBuilder& g, std::uint32_t node, std::int64_t rows,
                                     std::int64_t parts) {
  const std::int64_t heads = largest<MlaShape>(g.model, [](const MlaShape& m) { return m.heads; });
  if (heads == 0) return {};
  const std::int64_t e = g.element_bytes(), values = largest<MlaShape>(g.model, value_width) * e;
  // Only decoded tokens, one of each sequence, have rows as wide as the latents of all heads.
  const std::int64_t tokens = g.workload.decode_steps > 0 ? g.workload.batch : 0;
  const std::int64_t latents = tokens * largest<MlaShape>(g.model, absorbed_width) * e;
  LatentActivations a;
  a.low = g.buffer(node, rows * largest<MlaShape>(g.model, low_width) * e, "latent rows");
  a.query = g.buffer(node, rows * largest<MlaShape>(g.model, query_width) * e, "queries");
  a.absorbed = g.buffer(node, latents, "absorbed queries");
  a.summed = g.buffer(node, latents, "latent output");
  a.parts = g.buffer(node, parts * std::max(rows * values, latents), "partial outputs");
  a.stats = g.buffer(node, parts * rows * heads * kStatsBytes, "partial max and expsum");
  a.attended = g.buffer(node, rows * values, "attention output");
  return a;
}

// On one node.

LatentOnOneNode::LatentOnOneNode(GraphBuilder& g, const CompNode& node)
    : g_{g}, n_{node}, cache_{caches(g, node.id, g.tokens())} {
  if (largest<MlaShape>(g.model, query_width) > 0)
    expansion_ =
        expansion(g, node.id, g.workload.new_tokens() > 0 ? g.workload.prefill_tokens * g.workload.batch : 0);
}

TaskId LatentOnOneNode::run(const MlaShape& m, std::int64_t rows, TaskId after) {
  const Workload& w = g_.workload;
  const LatentActivations& a = n_.latent;
  const BufferId cache = cache_[static_cast<std::size_t>(g_.layer)];
  TaskId t = project(g_, n_, m, rows, after);
  if (g_.keeps_cache()) t = append(g_, m, n_.id, a.low, cache, rows, {t});
  if (g_.step < 0) {
    // Cached rows are up-projected again, as an engine does with a cached prefix.
    t = expand(g_, m, n_.id, w.cached_tokens > 0 ? cache : a.low, n_.weights(g_).latent_up, expansion_,
               w.prefill_tokens * w.batch, {t});
    t = g_.add(n_.id, Stage::attention, naive(g_, m, w.new_tokens(), w.prefill_tokens),
               {a.query, expansion_.keys, expansion_.up, a.attended}, {t});
    return project_out(g_, n_, m, a.attended, false, rows, {t});
  }
  t = absorb(g_, n_, m, t);
  t = g_.add(n_.id, Stage::attention, absorbed(g_, m, w.prefill_tokens + g_.step + 1, false),
             {a.absorbed, a.query, cache, a.summed}, {t});
  return project_out(g_, n_, m, a.summed, true, rows, {t});
}

// Over AttnNodes.

LatentOverNodes::LatentOverNodes(GraphBuilder& g, const Placement& placement,
                                 const std::vector<CompNode>& comp)
    : g_{g}, p_{placement}, comp_{comp} {
  const auto most = [&](auto size) { return largest<MlaShape>(g.model, size); };
  const std::int64_t heads = most([](const MlaShape& m) { return m.heads; });
  if (heads == 0) return;
  const std::int64_t e = g.element_bytes(), batch = g.workload.batch;
  const std::int64_t tokens = g.workload.decode_steps > 0 ? batch : 0;
  const std::int64_t token =
      most([&](const MlaShape& m) { return token_row(g, m).query + token_row(g, m).kept; });
  for (const auto& set : p_.s) positions_.push_back(std::make_shared<const std::vector<std::int32_t>>(set));
  for (const auto& set : p_.kept) kept_.push_back(std::make_shared<const std::vector<std::int32_t>>(set));
  nodes_.resize(std::size_t{p_.beta} * p_.beta);
  for (std::uint32_t j = 0; j < p_.beta; ++j) {
    for (std::uint32_t k = 0; k < p_.beta; ++k) {
      AttnNode& n = node(j, k);
      const std::uint32_t id = p_.attn(j, k);
      const std::int64_t rows = std::max<std::int64_t>(1, p_.s_rows(j)) * batch;
      const std::int64_t kv_rows = std::max<std::int64_t>(1, p_.s_rows(k)) * batch;
      const std::int64_t prompt =
          most([&](const MlaShape& m) { return (rows * query_width(m) + kv_rows * m.latent_width()) * e; });
      n.received = g.buffer(id, std::max(prompt, tokens * token), "received q and latents");
      n.out = g.buffer(id, std::max(rows * most(value_width), tokens * most(absorbed_width)) * e,
                       "partial output");
      n.stats = g.buffer(id, rows * heads * kStatsBytes, "partial max and expsum");
      if (p_.sees(j, k)) n.expansion = expansion(g, id, p_.kept_rows(k) * batch);
      n.weights.resize(g.model.layers.size());
      for (std::size_t l = 0; l < n.weights.size(); ++l) {
        if (const auto* m = std::get_if<MlaShape>(&g.model.layers[l].attention))
          n.weights[l] = up_weights(g, id, *m, l);
      }
      n.cache = caches(g, id, static_cast<std::int64_t>(p_.sharding.s.sets[k].size()));
      n.appended.resize(g.model.layers.size());
    }
  }
  if (g.workload.latents != LatentPolicy::fetch || g.workload.decode_steps == 0) return;
  for (const CompNode& n : comp) {
    fetched_.push_back({caches(g, n.id, g.tokens()), std::vector<std::int64_t>(g.model.layers.size(), -1)});
  }
}

void LatentOverNodes::prefill(const MlaShape& m, const std::vector<TaskId>& ready) {
  const std::int64_t batch = g_.workload.batch;
  const auto l = static_cast<std::size_t>(g_.layer);
  const RowBytes row = prompt_row(g_, m);
  TasksByNode received(nodes_.size());
  for (std::uint32_t i = 0; i < p_.alpha; ++i) {
    if (p_.r[i].empty()) continue;
    send_rows(g_, p_, i, project(g_, comp_[i], m, p_.r_rows(i) * batch, ready[i]), row, received);
  }
  returned_.assign(p_.alpha, {});
  for (std::uint32_t j = 0; j < p_.beta; ++j) {
    for (std::uint32_t k = 0; k < p_.beta; ++k) {
      AttnNode& n = node(j, k);
      const std::uint32_t id = p_.attn(j, k);
      std::vector<TaskId> after = received[j * p_.beta + k];
      if (g_.keeps_cache() && !p_.s[k].empty()) {
        after.push_back(append(g_, m, id, n.received, n.cache[l], p_.s_rows(k) * batch, after));
        n.appended[l] = {after.back()};
      }
      if (!p_.sees(j, k)) continue;
      TaskId t = expand(g_, m, id, g_.workload.cached_tokens > 0 ? n.cache[l] : n.received, n.weights[l],
                        n.expansion, p_.kept_rows(k) * batch, std::move(after));
      LatentAttention a = naive(g_, m, p_.s_rows(j), p_.kept_rows(k));
      a.partial = true;
      if (a.causal) {
        a.q_positions = positions_[j];
        a.kv_positions = kept_[k];
      }
      t = g_.add(id, Stage::attention, std::move(a),
                 {n.received, n.expansion.keys, n.expansion.up, n.out, n.stats}, {t});
      return_rows(g_, p_, j, k, t, row, returned_);
    }
  }
}

TaskId LatentOverNodes::finish(const MlaShape& m, std::uint32_t i) {
  const LatentActivations& a = comp_[i].latent;
  const Merged merged = merge_rows(g_, p_, i, returned_[i], m.heads, m.v_dim, {a.parts, a.stats, a.attended});
  return project_out(g_, comp_[i], m, merged.output, false, p_.r_rows(i) * g_.workload.batch, merged.after);
}

TaskId LatentOverNodes::decode(const MlaShape& m, std::uint32_t i, std::int64_t token, TaskId after) {
  const TaskId projected = project(g_, comp_[i], m, g_.workload.batch, after);
  return g_.workload.latents == LatentPolicy::route ? route(m, i, token, projected)
                                                    : fetch(m, i, token, projected);
}

void LatentOverNodes::keep(const MlaShape& m, std::uint32_t j, const std::vector<TaskId>& sent) {
  const auto l = static_cast<std::size_t>(g_.layer);
  for (std::uint32_t row = 0; row < p_.beta; ++row) {
    AttnNode& a = node(row, j);
    a.appended[l].push_back(
        append(g_, m, p_.attn(row, j), a.received, a.cache[l], g_.workload.batch, {sent[row]}));
  }
}

TaskId LatentOverNodes::route(const MlaShape& m, std::uint32_t i, std::int64_t token, TaskId projected) {
  const CompNode& n = comp_[i];
  const std::int64_t batch = g_.workload.batch;
  const auto l = static_cast<std::size_t>(g_.layer);
  const auto j = static_cast<std::uint32_t>(p_.s_owner[static_cast<std::size_t>(token)]);
  const RowBytes row = token_row(g_, m);
  const SentToken sent = send_token(g_, p_, i, token, absorb(g_, n, m, projected), row);
  keep(m, j, sent.kept);
  std::vector<TaskId> returned;
  for (std::uint32_t k = 0; k < p_.beta; ++k) {
    AttnNode& a = node(j, k);
    const std::int64_t context = p_.context(k, token);
    if (context == 0) continue;
    std::vector<TaskId> waits = std::move(a.appended[l]);
    a.appended[l].clear();
    waits.push_back(sent.query[k]);
    const TaskId attended = g_.add(p_.attn(j, k), Stage::attention, absorbed(g_, m, context, true),
                                   {a.received, a.received, a.cache[l], a.out, a.stats}, std::move(waits));
    returned.push_back(g_.send(p_.attn(j, k), i, Stage::returns, row.result * batch, {attended}));
  }
  const Merged merged = merge_token(g_, i, std::move(returned), m.heads, m.kv_lora,
                                    {n.latent.parts, n.latent.stats, n.latent.summed});
  return project_out(g_, n, m, merged.output, true, batch, merged.after);
}

TaskId LatentOverNodes::fetch(const MlaShape& m, std::uint32_t i, std::int64_t token, TaskId projected) {
  const CompNode& n = comp_[i];
  const std::int64_t batch = g_.workload.batch;
  const auto l = static_cast<std::size_t>(g_.layer);
  const auto j = static_cast<std::uint32_t>(p_.s_owner[static_cast<std::size_t>(token)]);
  Fetched& mine = fetched_[i];
  const auto held = [&](std::uint32_t k) { return mine.last[l] < 0 ? 0 : p_.context(k, mine.last[l]); };
  // Row j's nodes hold all rows between them. The token's own row, which it has, goes to its column.
  std::vector<TaskId> kept(p_.beta), waits{append(g_, m, i, n.latent.low, mine.cache[l], batch, {projected})};
  for (std::uint32_t row = 0; row < p_.beta; ++row)
    kept[row] = g_.send(i, p_.attn(row, j), Stage::send, token_row(g_, m).kept * batch, {projected});
  for (std::uint32_t k = 0; k < p_.beta; ++k) {
    const std::int64_t rows = p_.context(k, token - 1) - held(k);
    if (rows == 0) continue;
    AttnNode& a = node(j, k);
    std::vector<TaskId> after = std::move(a.appended[l]);
    a.appended[l].clear();
    after.push_back(k == j ? kept[j] : g_.send(i, p_.attn(j, k), Stage::send, kRequestBytes, {projected}));
    waits.push_back(
        g_.send(p_.attn(j, k), i, Stage::returns, rows * token_row(g_, m).kept * batch, std::move(after)));
  }
  keep(m, j, kept);
  mine.last[l] = token;
  waits.push_back(absorb(g_, n, m, projected));
  const TaskId t =
      g_.add(i, Stage::attention, absorbed(g_, m, token + 1, false),
             {n.latent.absorbed, n.latent.query, mine.cache[l], n.latent.summed}, std::move(waits));
  return project_out(g_, n, m, n.latent.summed, true, batch, {t});
}

}  // namespace tessera::models
