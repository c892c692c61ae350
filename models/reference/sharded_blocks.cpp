#include "models/reference/sharded_blocks.hpp"

#include <algorithm>
#include <numeric>

#include "models/reference/layer.hpp"

namespace tessera::models::reference {

namespace {

std::size_t z(std::int64_t n) { return static_cast<std::size_t>(n); }

std::vector<std::int32_t> first_positions(std::size_t rows) {
  std::vector<std::int32_t> positions(rows);
  std::iota(positions.begin(), positions.end(), 0);
  return positions;
}

/// The rows of `all` at `positions`.
std::vector<double> take(const std::vector<double>& all, const std::vector<std::int32_t>& positions,
                         std::int64_t width) {
  std::vector<double> rows;
  for (const std::int32_t p : positions)
    rows.insert(rows.end(), all.begin() + p * width, all.begin() + (p + 1) * width);
  return rows;
}
void put(std::vector<double>& all, const std::vector<std::int32_t>& positions,
         const std::vector<double>& rows, std::int64_t width) {
  for (std::size_t i = 0; i < positions.size(); ++i)
    std::copy_n(rows.begin() + static_cast<std::ptrdiff_t>(i) * width, width,
                all.begin() + positions[i] * width);
}

/// Columns [first, first + count) of rows `width` wide; and back.
std::vector<double> columns(const std::vector<double>& all, std::int64_t width, std::int64_t first,
                            std::int64_t count) {
  std::vector<double> some;
  for (auto row = all.begin(); row != all.end(); row += width)
    some.insert(some.end(), row + first, row + first + count);
  return some;
}
void put_columns(std::vector<double>& all, std::int64_t width, std::int64_t first, std::int64_t count,
                 const std::vector<double>& some) {
  auto from = some.begin();
  for (auto row = all.begin(); row != all.end(); row += width, from += count)
    std::copy_n(from, count, row + first);
}

/// Queries and what is kept of each row.
struct Projected {
  Rows queries, kept;
};
Projected project(const MlaWeights& w, const std::vector<std::int32_t>& positions,
                  const std::vector<double>& hidden) {
  const LatentShape& s = w.shape;
  const std::int64_t qk = s.nope + s.rope, width = s.cache_width();
  const std::vector<double> low = linear(hidden, w.kv_down, w.hidden, width);
  Rows keys{positions, columns(low, width, s.latent, s.rope)};
  Rows queries{positions, w.q_lora > 0 ? linear(rms_norm(linear(hidden, w.q_down, w.hidden, w.q_lora),
                                                         w.q_norm, w.q_lora),
                                                w.q, w.q_lora, s.query_width())
                                       : linear(hidden, w.q, w.hidden, s.query_width())};
  if (w.theta > 0) {
    rope(keys, 1, s.rope, w.theta);
    Rows rotated{positions, columns(queries.values, qk, s.nope, s.rope)};
    rope(rotated, s.heads, s.rope, w.theta);
    put_columns(queries.values, qk, s.nope, s.rope, rotated.values);
  }
  const std::vector<double> latents = rms_norm(columns(low, width, 0, s.latent), w.kv_norm, s.latent);
  return {std::move(queries), latent_cache(s, positions, latents, keys.values)};
}

std::vector<double> project_out(const MlaWeights& w, const std::vector<double>& attended) {
  return linear(attended, w.out, w.shape.heads * w.shape.value, w.hidden);
}

}  // namespace

std::vector<double> mla_block(const MlaWeights& w, const std::vector<double>& hidden) {
  const Projected p = project(w, first_positions(hidden.size() / z(w.hidden)), hidden);
  return project_out(w, naive_latent_attention(w.shape, w.up, p.queries, p.kept, true).out);
}

std::vector<double> sharded_mla_block(const MlaWeights& w, const Sharding& sharding,
                                      const std::vector<double>& hidden) {
  const LatentShape& s = w.shape;
  const std::size_t tokens = hidden.size() / z(w.hidden);
  const auto n = static_cast<std::int64_t>(tokens);
  const auto r = first_tokens(sharding.r, n).sets, columns_of = first_tokens(sharding.s, n).sets;
  const std::int64_t values = s.heads * s.value;
  std::vector<double> q(tokens * z(s.query_width())), kept(tokens * z(s.cache_width()));
  for (const auto& rows : r) {
    const Projected p = project(w, rows, take(hidden, rows, w.hidden));
    put(q, rows, p.queries.values, s.query_width());
    put(kept, rows, p.kept.values, s.cache_width());
  }
  std::vector<double> attended(tokens * z(values));
  for (const auto& rows : columns_of) {
    if (rows.empty()) continue;
    std::vector<Partial> parts;
    for (const auto& column : columns_of) {
      parts.push_back(naive_latent_attention(s, w.up, {rows, take(q, rows, s.query_width())},
                                             {column, take(kept, column, s.cache_width())}, true));
    }
    put(attended, rows, merge(s.merged(), parts), values);
  }
  std::vector<double> out(hidden.size());
  for (const auto& rows : r) put(out, rows, project_out(w, take(attended, rows, values)), w.hidden);
  return out;
}

std::vector<Rows> sharded_latents(const MlaWeights& w, const Sharding& sharding,
                                  const std::vector<double>& hidden) {
  const auto sets = first_tokens(sharding.s, static_cast<std::int64_t>(hidden.size()) / w.hidden).sets;
  std::vector<Rows> caches;
  for (std::size_t j = 0; j < sets.size(); ++j) {
    for (const auto& column : sets) caches.push_back(project(w, column, take(hidden, column, w.hidden)).kept);
  }
  return caches;
}

std::vector<double> sharded_mla_decode(const MlaWeights& w, const Sharding& sharding,
                                       std::vector<Rows>& caches, std::int32_t position,
                                       const std::vector<double>& hidden) {
  const LatentShape& s = w.shape;
  const std::size_t beta = sharding.s.sets.size();
  const auto j = z(owners(sharding.s)[z(position)]);
  const Projected p = project(w, {position}, hidden);
  for (std::size_t row = 0; row < beta; ++row) {
    Rows& cache = caches[row * beta + j];
    cache.positions.push_back(position);
    cache.values.insert(cache.values.end(), p.kept.values.begin(), p.kept.values.end());
  }
  const Rows absorbed = absorb(s, w.up, p.queries);
  std::vector<Partial> parts;
  for (std::size_t k = 0; k < beta; ++k)
    parts.push_back(attend_to_latents(s, absorbed, caches[j * beta + k], true));
  return project_out(w, values_of(s, w.up, merge(s.merged_latents(), parts)));
}

std::vector<KdaState> empty_states(const KdaWeights& w, std::int64_t nodes) {
  std::vector<KdaState> states;
  for (std::int64_t a = 0; a < nodes; ++a) {
    const std::int64_t heads = w.heads * (a + 1) / nodes - w.heads * a / nodes;
    states.push_back(heads > 0 ? empty_state(w, heads) : KdaState{});
  }
  return states;
}

namespace {

/// All rows of the CompNodes' parts, where they belong.
KdaRows all_rows(const KdaWeights& w, const Partition& r, const std::vector<double>& hidden) {
  const std::int64_t width = w.heads * w.head_dim, tokens = std::ssize(hidden) / w.hidden;
  const std::vector<double> blank(z(tokens * width));
  KdaRows all{blank, blank, blank, blank, std::vector<double>(z(tokens * w.heads))};
  for (const auto& rows : r.sets) {
    const KdaRows mine = kda_rows(w, take(hidden, rows, w.hidden));
    put(all.q, rows, mine.q, width);
    put(all.k, rows, mine.k, width);
    put(all.v, rows, mine.v, width);
    put(all.decay, rows, mine.decay, width);
    put(all.beta, rows, mine.beta, w.heads);
  }
  return all;
}

/// A node's inputs of one convolution: of `before` (those before the first token of all) and `all`, the taps
/// - 1 before token `first`.
std::vector<double> inputs_before(const std::vector<double>& before, const std::vector<double>& all,
                                  std::int64_t width, std::int64_t taps, std::int64_t first) {
  std::vector<double> joined = before;
  joined.insert(joined.end(), all.begin(), all.begin() + first * width);
  return {joined.end() - (taps - 1) * width, joined.end()};
}

std::vector<double> finish(const KdaWeights& w, const Partition& r, const std::vector<double>& hidden,
                           const std::vector<double>& attended) {
  std::vector<double> out(hidden.size());
  for (const auto& rows : r.sets) {
    put(out, rows, kda_finish(w, take(hidden, rows, w.hidden), take(attended, rows, w.heads * w.head_dim)),
        w.hidden);
  }
  return out;
}

}  // namespace

std::vector<double> segmented_kda_block(const KdaWeights& w, const Partition& r, std::int64_t nodes,
                                        const std::vector<double>& hidden, KdaState& state,
                                        std::int64_t chunk) {
  const std::int64_t width = w.heads * w.head_dim, tokens = std::ssize(hidden) / w.hidden;
  const LinearShape shape{w.heads, w.head_dim, w.head_dim};
  const KdaRows all = all_rows(w, r, hidden);
  std::vector<LinearTokens> segments;
  std::vector<StateMap> maps;
  KdaState last = state;
  for (std::int64_t a = 0; a < nodes; ++a) {
    const std::int64_t first = tokens * a / nodes, end = tokens * (a + 1) / nodes;
    const auto piece = [&](const std::vector<double>& x, std::int64_t wide) {
      return std::vector<double>(x.begin() + first * wide, x.begin() + end * wide);
    };
    KdaState own{{},
                 inputs_before(state.conv_q, all.q, width, w.taps, first),
                 inputs_before(state.conv_k, all.k, width, w.taps, first),
                 inputs_before(state.conv_v, all.v, width, w.taps, first)};
    segments.push_back(kda_tokens(w, 0, w.heads,
                                  {piece(all.q, width), piece(all.k, width), piece(all.v, width),
                                   piece(all.decay, width), piece(all.beta, w.heads)},
                                  own));
    maps.push_back(state_map(kKda, shape, segments.back()));
    last = std::move(own);
  }
  std::vector<double> attended;
  for (std::size_t a = 0; a < segments.size(); ++a) {
    std::vector<double> incoming = state.state;
    for (std::size_t before = 0; before < a; ++before) incoming = apply(shape, maps[before], incoming);
    const LinearResult result = chunkwise(kKda, shape, segments[a], incoming, chunk);
    attended.insert(attended.end(), result.out.begin(), result.out.end());
    last.state = result.state;
  }
  state = std::move(last);
  return finish(w, r, hidden, attended);
}

std::vector<double> sharded_kda_block(const KdaWeights& w, const Partition& r,
                                      const std::vector<double>& hidden, std::vector<KdaState>& states,
                                      std::int64_t chunk) {
  const std::int64_t width = w.heads * w.head_dim, tokens = std::ssize(hidden) / w.hidden,
                     nodes = std::ssize(states);
  const KdaRows all = all_rows(w, r, hidden);
  std::vector<double> attended(z(tokens * width));
  for (std::int64_t a = 0; a < nodes; ++a) {
    const std::int64_t first = w.heads * a / nodes, count = w.heads * (a + 1) / nodes - first;
    if (count == 0) continue;
    const std::int64_t from = first * w.head_dim, wide = count * w.head_dim;
    const KdaRows mine{columns(all.q, width, from, wide), columns(all.k, width, from, wide),
                       columns(all.v, width, from, wide), columns(all.decay, width, from, wide),
                       columns(all.beta, w.heads, first, count)};
    put_columns(attended, width, from, wide, kda_heads(w, first, count, mine, states[z(a)], chunk));
  }
  return finish(w, r, hidden, attended);
}

}  // namespace tessera::models::reference
