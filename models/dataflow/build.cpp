#include "models/dataflow/build.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <stdexcept>

namespace tessera::models {

std::string_view name_of(Stage stage) {
  static constexpr std::array<std::string_view, kStages> names{"embed", "norm",   "qkv",       "rope",
                                                               "send",  "cache",  "attention", "return",
                                                               "merge", "o_proj", "mlp",       "head"};
  return names[static_cast<std::size_t>(stage)];
}

namespace {

constexpr std::int64_t kStatsBytes = 8;  // row maximum and sum of exponentials, fp32, per row and head
constexpr std::int64_t kTokenBytes = 8;  // a sampled token's id

std::int64_t in_both(const std::vector<std::int32_t>& a, const std::vector<std::int32_t>& b) {
  std::int64_t n = 0;
  for (std::size_t i = 0, k = 0; i < a.size() && k < b.size();) {
    if (a[i] == b[k]) ++n;
    if (a[i] <= b[k])
      ++i;
    else
      ++k;
  }
  return n;
}

class Builder {
 public:
  Builder(const Architecture& model, const Workload& workload) : m{model}, w{workload} {
    if (w.prefill_tokens <= 0) throw std::invalid_argument{"prefill_tokens must be positive"};
    if (w.decode_steps < 0) throw std::invalid_argument{"decode_steps must not be negative"};
    if (w.batch <= 0) throw std::invalid_argument{"batch must be positive"};
    if (w.decode_steps > 0 && !m.causal)
      throw std::invalid_argument{fmt::format("decode_steps: {} is bidirectional and cannot decode", m.name)};
    // Rotary positions go on beyond the trained length (at what quality is not our question); learned ones
    // end.
    if (m.learned_positions && w.prefill_tokens + w.decode_steps > m.max_positions) {
      throw std::invalid_argument{fmt::format("{} tokens exceed the {} positions of {}",
                                              w.prefill_tokens + w.decode_steps, m.max_positions, m.name)};
    }
    e = bytes_of(m.dtype);
    q_width = m.heads * m.head_dim;
    kv_width = m.kv_heads * m.head_dim;
  }

  TaskGraph single();
  TaskGraph cascade(const Sharding& sharding);

 private:
  /// Buffers of a node that does per-token work.
  struct CompBuffers {
    BufferId table = 0, head = 0, norm = 0;
    std::vector<BufferId> qkv, o, up, down;  // weights, per layer
    BufferId hidden = 0, normed = 0, projections = 0, parts = 0, stats = 0, attended = 0, branch = 0,
             wide = 0, activated = 0, logits = 0;
  };

  BufferId buffer(std::uint32_t node, std::int64_t bytes, std::string name, bool weight = false) {
    g.buffers.push_back({node, bytes, weight, std::move(name)});
    return static_cast<BufferId>(g.buffers.size() - 1);
  }
  CompBuffers comp_buffers(std::uint32_t node, std::int64_t rows, std::int64_t parts);

  TaskId add(std::uint32_t node, Stage stage, Operator op, std::vector<BufferId> operands,
             std::vector<TaskId> after) {
    g.tasks.push_back(
        {node, layer, step, stage, Compute{std::move(op), std::move(operands)}, std::move(after)});
    return static_cast<TaskId>(g.tasks.size() - 1);
  }
  TaskId send(std::uint32_t from, std::uint32_t to, Stage stage, std::int64_t bytes,
              std::vector<TaskId> after) {
    g.tasks.push_back({from, layer, step, stage, Transfer{to, bytes}, std::move(after)});
    return static_cast<TaskId>(g.tasks.size() - 1);
  }

  // Parts of a layer on one node; each returns its last task.
  TaskId embed(std::uint32_t node, const CompBuffers& b, std::int64_t rows, std::vector<TaskId> after);
  TaskId project(std::uint32_t node, const CompBuffers& b, std::int64_t rows, TaskId after);
  /// `attended`: the buffer that holds the attention's result.
  TaskId after_attention(std::uint32_t node, const CompBuffers& b, BufferId attended, std::int64_t rows,
                         std::vector<TaskId> after);
  /// Appends `rows` new rows of k and v, which lie in `projections`, to a layer's cache.
  TaskId append(std::uint32_t node, BufferId projections, BufferId cache, std::int64_t rows,
                std::vector<TaskId> after) {
    return add(node, Stage::cache, Copy{2 * rows * kv_width * e}, {projections, cache}, std::move(after));
  }
  /// One cache per layer, for `tokens` rows of k and of v; none if the model never decodes.
  std::vector<BufferId> caches(std::uint32_t node, std::int64_t tokens) {
    std::vector<BufferId> ids;
    if (!keeps_cache()) return ids;
    for (std::int64_t l = 0; l < m.layers; ++l)
      ids.push_back(buffer(node, 2 * tokens * kv_width * e * w.batch, fmt::format("k, v cache.{}", l)));
    return ids;
  }
  /// A causal model's prompt is kept for the tokens to come, decoded in this run or not; a bidirectional
  /// model recomputes everything, and so keeps nothing.
  bool keeps_cache() const { return m.causal; }
  TaskId head(std::uint32_t node, const CompBuffers& b, TaskId after);

  const Architecture& m;
  const Workload& w;
  std::int64_t e = 0, q_width = 0, kv_width = 0;
  TaskGraph g;
  std::int32_t layer = -1, step = -1;
};

Builder::CompBuffers Builder::comp_buffers(std::uint32_t node, std::int64_t rows, std::int64_t parts) {
  CompBuffers b;
  const std::int64_t up_width = (m.gated_mlp ? 2 : 1) * m.intermediate;
  b.table = buffer(node, m.vocab * m.hidden * e, "embedding", true);
  b.head =
      m.language_head && !m.tied_embeddings ? buffer(node, m.vocab * m.hidden * e, "head", true) : b.table;
  b.norm = buffer(node, m.hidden * e, "norm", true);
  for (std::int64_t l = 0; l < m.layers; ++l) {
    b.qkv.push_back(buffer(node, (q_width + 2 * kv_width) * m.hidden * e, fmt::format("qkv.{}", l), true));
    b.o.push_back(buffer(node, q_width * m.hidden * e, fmt::format("o.{}", l), true));
    b.up.push_back(buffer(node, up_width * m.hidden * e, fmt::format("up.{}", l), true));
    b.down.push_back(buffer(node, m.intermediate * m.hidden * e, fmt::format("down.{}", l), true));
  }
  b.hidden = buffer(node, rows * m.hidden * e, "hidden");
  b.normed = buffer(node, rows * m.hidden * e, "normed");
  b.projections = buffer(node, rows * (q_width + 2 * kv_width) * e, "q, k, v");
  b.parts = buffer(node, parts * rows * q_width * e, "partial outputs");
  b.stats = buffer(node, parts * rows * m.heads * kStatsBytes, "partial max and expsum");
  b.attended = buffer(node, rows * q_width * e, "attention output");
  b.branch = buffer(node, rows * m.hidden * e, "branch output");
  b.wide = buffer(node, rows * up_width * e, "up projection");
  b.activated = buffer(node, rows * m.intermediate * e, "activated");
  b.logits = buffer(node, w.batch * m.vocab * e, "logits");
  return b;
}

TaskId Builder::embed(std::uint32_t node, const CompBuffers& b, std::int64_t rows,
                      std::vector<TaskId> after) {
  layer = -1;
  return add(node, Stage::embed, Embedding{rows, m.hidden, m.dtype}, {b.table, b.hidden}, std::move(after));
}

TaskId Builder::project(std::uint32_t node, const CompBuffers& b, std::int64_t rows, TaskId after) {
  const auto l = static_cast<std::size_t>(layer);
  TaskId t = after;
  BufferId in = b.hidden;
  if (!m.post_norm) {
    // From the second layer on, the previous MLP's output is added to the residual stream here.
    const bool residual = layer > 0;
    const Norm norm{rows, m.hidden, m.norm, residual, m.dtype};
    t = residual ? add(node, Stage::norm, norm, {b.branch, b.hidden, b.norm, b.normed, b.hidden}, {t})
                 : add(node, Stage::norm, norm, {b.hidden, b.norm, b.normed}, {t});
    in = b.normed;
  }
  t = add(node, Stage::qkv, Gemm{rows, q_width + 2 * kv_width, m.hidden, m.dtype},
          {in, b.qkv[l], b.projections}, {t});
  if (m.qk_norm) {
    t = add(node, Stage::rope, Norm{rows * (m.heads + m.kv_heads), m.head_dim, NormKind::rms, false, m.dtype},
            {b.projections, b.norm, b.projections}, {t});
  }
  if (m.rope) {
    t = add(node, Stage::rope, Rope{rows, m.heads, m.kv_heads, m.head_dim, m.dtype},
            {b.projections, b.projections, b.projections, b.projections}, {t});
  }
  return t;
}

TaskId Builder::after_attention(std::uint32_t node, const CompBuffers& b, BufferId attended,
                                std::int64_t rows, std::vector<TaskId> after) {
  const auto l = static_cast<std::size_t>(layer);
  const std::int64_t up_width = (m.gated_mlp ? 2 : 1) * m.intermediate;
  const Norm norm{rows, m.hidden, m.norm, true, m.dtype};
  TaskId t = add(node, Stage::o_proj, Gemm{rows, m.hidden, q_width, m.dtype}, {attended, b.o[l], b.branch},
                 std::move(after));
  t = add(node, Stage::mlp, norm, {b.branch, b.hidden, b.norm, b.normed, b.hidden}, {t});
  t = add(node, Stage::mlp, Gemm{rows, up_width, m.hidden, m.dtype}, {b.normed, b.up[l], b.wide}, {t});
  t = add(
      node, Stage::mlp,
      Activation{rows, m.intermediate, m.gated_mlp ? ActivationKind::swiglu : ActivationKind::gelu, m.dtype},
      {b.wide, b.activated}, {t});
  t = add(node, Stage::mlp, Gemm{rows, m.hidden, m.intermediate, m.dtype}, {b.activated, b.down[l], b.branch},
          {t});
  if (m.post_norm) t = add(node, Stage::mlp, norm, {b.branch, b.normed, b.norm, b.hidden, b.normed}, {t});
  return t;
}

TaskId Builder::head(std::uint32_t node, const CompBuffers& b, TaskId after) {
  layer = -1;
  if (!m.language_head) return after;
  TaskId t = add(node, Stage::head, Norm{w.batch, m.hidden, m.norm, true, m.dtype},
                 {b.branch, b.hidden, b.norm, b.normed, b.hidden}, {after});
  return add(node, Stage::head, Gemm{w.batch, m.vocab, m.hidden, m.dtype}, {b.normed, b.head, b.logits}, {t});
}

TaskGraph Builder::single() {
  g.nodes = {{"gpu0", NodeKind::comp}};
  const std::int64_t rows = w.prefill_tokens * w.batch;
  const CompBuffers b = comp_buffers(0, rows, 0);
  const std::vector<BufferId> cache = caches(0, w.prefill_tokens + w.decode_steps);
  std::vector<TaskId> previous;
  for (step = -1; step < w.decode_steps; ++step) {
    const std::int64_t step_rows = step < 0 ? rows : w.batch;
    TaskId t = embed(0, b, step_rows, previous);
    for (layer = 0; layer < m.layers; ++layer) {
      const auto l = static_cast<std::size_t>(layer);
      t = project(0, b, step_rows, t);
      if (keeps_cache()) t = append(0, b.projections, cache[l], step_rows, {t});
      // The prompt's keys are all at hand; a decode step's are in the cache, its own included.
      const BufferId kv = step < 0 ? b.projections : cache[l];
      Operator attention;
      if (step < 0) {
        attention = Attention{.batch = w.batch,
                              .q_rows = w.prefill_tokens,
                              .kv_rows = w.prefill_tokens,
                              .heads = m.heads,
                              .kv_heads = m.kv_heads,
                              .head_dim = m.head_dim,
                              .causal = m.causal,
                              .dtype = m.dtype};
      } else {
        attention = AttentionDecode{.batch = w.batch,
                                    .context = w.prefill_tokens + step + 1,
                                    .heads = m.heads,
                                    .kv_heads = m.kv_heads,
                                    .head_dim = m.head_dim,
                                    .dtype = m.dtype};
      }
      t = add(0, Stage::attention, std::move(attention), {b.projections, kv, kv, b.attended}, {t});
      t = after_attention(0, b, b.attended, step_rows, {t});
    }
    previous = {head(0, b, t)};
  }
  return std::move(g);
}

TaskGraph Builder::cascade(const Sharding& sharding) {
  check(sharding);
  const std::int64_t tokens = w.prefill_tokens + w.decode_steps;
  if (sharding.r.tokens != tokens) {
    throw std::invalid_argument{
        fmt::format("the sharding shares out {} tokens, the workload has {}", sharding.r.tokens, tokens)};
  }
  const auto alpha = static_cast<std::uint32_t>(sharding.alpha()),
             beta = static_cast<std::uint32_t>(sharding.beta());
  const auto r = first_tokens(sharding.r, w.prefill_tokens).sets,
             s = first_tokens(sharding.s, w.prefill_tokens).sets;
  const std::vector<std::int32_t> r_owner = owners(sharding.r), s_owner = owners(sharding.s);
  const auto attn = [&](std::uint32_t j, std::uint32_t k) { return alpha + j * beta + k; };

  for (std::uint32_t i = 0; i < alpha; ++i) g.nodes.push_back({fmt::format("comp{}", i), NodeKind::comp});
  for (std::uint32_t j = 0; j < beta; ++j) {
    for (std::uint32_t k = 0; k < beta; ++k)
      g.nodes.push_back({fmt::format("attn{},{}", j, k), NodeKind::attn});
  }

  // Sizes of the intersections, and who sees whom.
  std::vector<std::vector<std::int64_t>> overlap(alpha, std::vector<std::int64_t>(beta));
  for (std::uint32_t i = 0; i < alpha; ++i) {
    for (std::uint32_t j = 0; j < beta; ++j) overlap[i][j] = in_both(r[i], s[j]);
  }
  std::vector<Positions> positions;
  for (const auto& set : s) positions.push_back(std::make_shared<const std::vector<std::int32_t>>(set));
  const auto sees = [&](std::uint32_t j, std::uint32_t k) {
    if (s[j].empty() || s[k].empty()) return false;
    return !m.causal || s[j].back() >= s[k].front();
  };

  std::vector<CompBuffers> comp;
  for (std::uint32_t i = 0; i < alpha; ++i) {
    const auto rows = std::max<std::int64_t>(1, static_cast<std::int64_t>(r[i].size())) * w.batch;
    comp.push_back(comp_buffers(i, rows, beta));
  }
  struct AttnBuffers {
    BufferId received = 0, out = 0, stats = 0;  // q, k, v of one layer; messages put rows where they belong
    std::vector<BufferId> cache;
    std::vector<std::vector<TaskId>> appended;  // to the cache and not yet waited for, per layer
  };
  std::vector<AttnBuffers> nodes(std::size_t{beta} * beta);
  for (std::uint32_t j = 0; j < beta; ++j) {
    for (std::uint32_t k = 0; k < beta; ++k) {
      AttnBuffers& n = nodes[j * beta + k];
      const std::uint32_t id = attn(j, k);
      const std::int64_t rows = std::max<std::int64_t>(1, static_cast<std::int64_t>(s[j].size())) * w.batch;
      const auto kv_rows = std::max<std::int64_t>(1, static_cast<std::int64_t>(s[k].size())) * w.batch;
      n.received = buffer(id, (rows * q_width + 2 * kv_rows * kv_width) * e, "q, k, v");
      n.out = buffer(id, rows * q_width * e, "partial output");
      n.stats = buffer(id, rows * m.heads * kStatsBytes, "partial max and expsum");
      n.cache = caches(id, static_cast<std::int64_t>(sharding.s.sets[k].size()));
      n.appended.resize(static_cast<std::size_t>(m.layers));
    }
  }
  const std::int64_t result_bytes = q_width * e + m.heads * kStatsBytes;  // per row

  // Prefill.
  std::vector<TaskId> last(alpha);
  for (std::uint32_t i = 0; i < alpha; ++i) {
    if (!r[i].empty()) last[i] = embed(i, comp[i], static_cast<std::int64_t>(r[i].size()) * w.batch, {});
  }
  for (layer = 0; layer < m.layers; ++layer) {
    const auto l = static_cast<std::size_t>(layer);
    std::vector<std::vector<TaskId>> received(nodes.size()), returned(alpha);
    for (std::uint32_t i = 0; i < alpha; ++i) {
      if (r[i].empty()) continue;
      const TaskId ready = project(i, comp[i], static_cast<std::int64_t>(r[i].size()) * w.batch, last[i]);
      for (std::uint32_t j = 0; j < beta; ++j) {
        for (std::uint32_t k = 0; k < beta; ++k) {
          const std::int64_t q_rows = s[k].empty() ? 0 : overlap[i][j];  // no keys there: no use for queries
          const std::int64_t bytes = (q_rows * q_width + overlap[i][k] * 2 * kv_width) * e * w.batch;
          if (bytes > 0) received[j * beta + k].push_back(send(i, attn(j, k), Stage::send, bytes, {ready}));
        }
      }
    }
    for (std::uint32_t j = 0; j < beta; ++j) {
      for (std::uint32_t k = 0; k < beta; ++k) {
        AttnBuffers& n = nodes[j * beta + k];
        std::vector<TaskId> after = received[j * beta + k];
        if (keeps_cache() && !s[k].empty()) {
          after.push_back(append(attn(j, k), n.received, n.cache[l],
                                 static_cast<std::int64_t>(s[k].size()) * w.batch, after));
          n.appended[l] = {after.back()};
        }
        if (!sees(j, k)) continue;
        Attention a{.batch = w.batch,
                    .q_rows = static_cast<std::int64_t>(s[j].size()),
                    .kv_rows = static_cast<std::int64_t>(s[k].size()),
                    .heads = m.heads,
                    .kv_heads = m.kv_heads,
                    .head_dim = m.head_dim,
                    .causal = m.causal,
                    .partial = true,
                    .dtype = m.dtype};
        if (m.causal) {
          a.q_positions = positions[j];
          a.kv_positions = positions[k];
        }
        const TaskId t = add(attn(j, k), Stage::attention, a,
                             {n.received, n.received, n.received, n.out, n.stats}, std::move(after));
        for (std::uint32_t i = 0; i < alpha; ++i) {
          if (overlap[i][j] > 0) {
            returned[i].push_back(
                send(attn(j, k), i, Stage::returns, overlap[i][j] * result_bytes * w.batch, {t}));
          }
        }
      }
    }
    for (std::uint32_t i = 0; i < alpha; ++i) {
      if (r[i].empty()) continue;
      const CompBuffers& b = comp[i];
      // Rows of S_j get one part from every column they see anything of.
      std::map<std::int64_t, std::int64_t> rows_by_parts;
      for (std::uint32_t j = 0; j < beta; ++j) {
        if (overlap[i][j] == 0) continue;
        std::int64_t parts = 0;
        for (std::uint32_t k = 0; k < beta; ++k) parts += sees(j, k) ? 1 : 0;
        rows_by_parts[parts] += overlap[i][j];
      }
      std::vector<TaskId> after = returned[i];
      // A row's only part is its result. It is received among the other rows' results, if they are merged.
      BufferId attended = b.parts;
      for (const auto& [parts, rows] : rows_by_parts) {
        if (parts < 2) continue;
        attended = b.attended;
        after = {add(i, Stage::merge, Merge{rows * w.batch, m.heads, m.head_dim, parts, m.dtype},
                     {b.parts, b.stats, b.attended}, after)};
      }
      last[i] = after_attention(i, b, attended, static_cast<std::int64_t>(r[i].size()) * w.batch, after);
    }
  }
  auto at = static_cast<std::uint32_t>(r_owner[static_cast<std::size_t>(w.prefill_tokens - 1)]);
  TaskId sampled = head(at, comp[at], last[at]);

  // Decode: each step's token belongs to one CompNode and to one row and column of AttnNodes.
  for (step = 0; step < w.decode_steps; ++step) {
    const auto token = static_cast<std::size_t>(w.prefill_tokens + step);
    const auto i = static_cast<std::uint32_t>(r_owner[token]);
    const auto j = static_cast<std::uint32_t>(s_owner[token]);
    const CompBuffers& b = comp[i];
    std::vector<std::int64_t> contexts;  // keys of each column, the token's own included
    for (const auto& column : sharding.s.sets) {
      contexts.push_back(std::upper_bound(column.begin(), column.end(), static_cast<std::int32_t>(token)) -
                         column.begin());
    }
    layer = -1;
    if (i != at) sampled = send(at, i, Stage::embed, kTokenBytes * w.batch, {sampled});
    TaskId t = embed(i, b, w.batch, {sampled});
    for (layer = 0; layer < m.layers; ++layer) {
      const auto l = static_cast<std::size_t>(layer);
      const TaskId ready = project(i, b, w.batch, t);
      std::vector<TaskId> queries(beta);
      for (std::uint32_t k = 0; k < beta; ++k) {  // q to row j; (j, j) is also in the token's column
        if (contexts[k] == 0) continue;
        const std::int64_t bytes = (q_width + (k == j ? 2 * kv_width : 0)) * e * w.batch;
        queries[k] = send(i, attn(j, k), Stage::send, bytes, {ready});
      }
      for (std::uint32_t row = 0; row < beta; ++row) {
        AttnBuffers& n = nodes[row * beta + j];
        const TaskId sent =
            row == j ? queries[j] : send(i, attn(row, j), Stage::send, 2 * kv_width * e * w.batch, {ready});
        n.appended[l].push_back(append(attn(row, j), n.received, n.cache[l], w.batch, {sent}));
      }
      std::vector<TaskId> returned;
      for (std::uint32_t k = 0; k < beta; ++k) {
        AttnBuffers& n = nodes[j * beta + k];
        if (contexts[k] == 0) continue;
        std::vector<TaskId> after = std::move(n.appended[l]);
        n.appended[l].clear();
        after.push_back(queries[k]);
        const TaskId a = add(attn(j, k), Stage::attention,
                             AttentionDecode{.batch = w.batch,
                                             .context = contexts[k],
                                             .heads = m.heads,
                                             .kv_heads = m.kv_heads,
                                             .head_dim = m.head_dim,
                                             .partial = true,
                                             .dtype = m.dtype},
                             {n.received, n.cache[l], n.cache[l], n.out, n.stats}, std::move(after));
        returned.push_back(send(attn(j, k), i, Stage::returns, result_bytes * w.batch, {a}));
      }
      const BufferId attended = returned.size() > 1 ? b.attended : b.parts;
      if (returned.size() > 1) {
        const auto parts = static_cast<std::int64_t>(returned.size());
        returned = {add(i, Stage::merge, Merge{w.batch, m.heads, m.head_dim, parts, m.dtype},
                        {b.parts, b.stats, b.attended}, returned)};
      }
      t = after_attention(i, b, attended, w.batch, returned);
    }
    sampled = head(i, b, t);
    at = i;
  }
  return std::move(g);
}

}  // namespace

TaskGraph build_single(const Architecture& model, const Workload& workload) {
  return Builder{model, workload}.single();
}

TaskGraph build_cascade(const Architecture& model, const Sharding& sharding, const Workload& workload) {
  return Builder{model, workload}.cascade(sharding);
}

}  // namespace tessera::models
