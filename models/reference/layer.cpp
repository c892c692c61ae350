#include "models/reference/layer.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tessera::models::reference {

namespace {

std::size_t z(std::int64_t n) { return static_cast<std::size_t>(n); }

// The first layer stands for all.
const DenseShape& dense_of(const Architecture& m) { return std::get<DenseShape>(m.layers.at(0).attention); }
const MlpShape& mlp_of(const Architecture& m) { return std::get<MlpShape>(m.layers.at(0).feed_forward); }

HeadShape shape_of(const Architecture& m) {
  const DenseShape& d = dense_of(m);
  return {d.heads, d.kv_heads, d.head_dim};
}

std::vector<double> normalise(const Architecture& m, const std::vector<double>& x,
                              const std::vector<double>& weight) {
  return m.norm == NormKind::rms ? rms_norm(x, weight, m.hidden) : layer_norm(x, weight, m.hidden);
}

/// q, k, v of the rows at `positions`.
struct Projected {
  Rows q, k, v;
};
Projected project(const Architecture& m, const LayerWeights& w, const std::vector<std::int32_t>& positions,
                  const std::vector<double>& hidden) {
  const std::vector<double> x = m.post_norm ? hidden : normalise(m, hidden, w.norm1);
  const DenseShape& d = dense_of(m);
  const std::int64_t q_width = d.q_width(), kv_width = d.kv_width();
  Projected p{{positions, linear(x, w.q, m.hidden, q_width)},
              {positions, linear(x, w.k, m.hidden, kv_width)},
              {positions, linear(x, w.v, m.hidden, kv_width)}};
  if (d.qk_norm) {  // per head
    p.q.values = rms_norm(p.q.values, w.q_norm, d.head_dim);
    p.k.values = rms_norm(p.k.values, w.k_norm, d.head_dim);
  }
  if (d.rope) {
    rope(p.q, d.heads, d.head_dim, m.rope_theta);
    rope(p.k, d.kv_heads, d.head_dim, m.rope_theta);
  }
  return p;
}

void add(std::vector<double>& x, const std::vector<double>& y) {
  std::transform(x.begin(), x.end(), y.begin(), x.begin(), std::plus<>{});
}

/// Everything after attention, for some rows.
std::vector<double> finish(const Architecture& m, const LayerWeights& w, std::vector<double> hidden,
                           const std::vector<double>& attended) {
  const MlpShape& shape = mlp_of(m);
  const auto mlp = [&](const std::vector<double>& x) {
    std::vector<double> up = linear(x, w.up, m.hidden, shape.width);
    if (shape.gated) {
      const std::vector<double> gate = linear(x, w.gate, m.hidden, shape.width);
      for (std::size_t i = 0; i < up.size(); ++i) up[i] *= silu(gate[i]);
    } else {
      for (double& u : up) u = gelu(u);
    }
    return linear(up, w.down, shape.width, m.hidden);
  };
  add(hidden, linear(attended, w.o, dense_of(m).q_width(), m.hidden));
  if (m.post_norm) {
    hidden = normalise(m, hidden, w.norm1);
    add(hidden, mlp(hidden));
    return normalise(m, hidden, w.norm2);
  }
  add(hidden, mlp(normalise(m, hidden, w.norm2)));
  return hidden;
}

/// The rows of `all` (sorted by position) that lie at `positions`.
std::vector<double> take(const std::vector<double>& all, const std::vector<std::int32_t>& positions,
                         std::int64_t width) {
  std::vector<double> rows;
  for (const std::int32_t p : positions)
    rows.insert(rows.end(), all.begin() + p * width, all.begin() + (p + 1) * width);
  return rows;
}
void put(std::vector<double>& all, const std::vector<std::int32_t>& positions,
         const std::vector<double>& rows, std::int64_t width) {
  for (std::size_t i = 0; i < positions.size(); ++i) {
    std::copy_n(rows.begin() + static_cast<std::ptrdiff_t>(i) * width, width,
                all.begin() + positions[i] * width);
  }
}

void append(Rows& rows, const Rows& more) {
  rows.positions.insert(rows.positions.end(), more.positions.begin(), more.positions.end());
  rows.values.insert(rows.values.end(), more.values.begin(), more.values.end());
}
void append(KvCache& cache, const Projected& p) {
  append(cache.k, p.k);
  append(cache.v, p.v);
}

}  // namespace

LayerWeights random_weights(const Architecture& m, std::mt19937_64& random) {
  const auto matrix = [&](std::int64_t outputs, std::int64_t inputs) {
    std::normal_distribution<double> normal{0, 1 / std::sqrt(static_cast<double>(inputs))};
    std::vector<double> w(z(outputs * inputs));
    for (double& x : w) x = normal(random);
    return w;
  };
  const auto gain = [&](std::int64_t width) {
    std::uniform_real_distribution<double> uniform{0.5, 1.5};
    std::vector<double> w(z(width));
    for (double& x : w) x = uniform(random);
    return w;
  };
  const DenseShape& d = dense_of(m);
  const MlpShape& mlp = mlp_of(m);
  const std::int64_t q_width = d.q_width(), kv_width = d.kv_width();
  LayerWeights w{gain(m.hidden),
                 gain(m.hidden),
                 matrix(q_width, m.hidden),
                 matrix(kv_width, m.hidden),
                 matrix(kv_width, m.hidden),
                 matrix(m.hidden, q_width),
                 {},
                 matrix(mlp.width, m.hidden),
                 matrix(m.hidden, mlp.width),
                 {},
                 {}};
  if (mlp.gated) w.gate = matrix(mlp.width, m.hidden);
  if (d.qk_norm) {
    w.q_norm = gain(d.head_dim);
    w.k_norm = gain(d.head_dim);
  }
  return w;
}

std::vector<double> rms_norm(const std::vector<double>& x, const std::vector<double>& weight,
                             std::int64_t width) {
  std::vector<double> y(x.size());
  for (std::size_t row = 0; row < x.size(); row += z(width)) {
    double squares = 0;
    for (std::size_t i = 0; i < z(width); ++i) squares += x[row + i] * x[row + i];
    const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + 1e-5);
    for (std::size_t i = 0; i < z(width); ++i) y[row + i] = x[row + i] * scale * weight[i];
  }
  return y;
}

std::vector<double> layer_norm(const std::vector<double>& x, const std::vector<double>& weight,
                               std::int64_t width) {
  std::vector<double> y(x.size());
  const auto n = static_cast<double>(width);
  for (std::size_t row = 0; row < x.size(); row += z(width)) {
    double mean = 0, squares = 0;
    for (std::size_t i = 0; i < z(width); ++i) mean += x[row + i] / n;
    for (std::size_t i = 0; i < z(width); ++i) squares += (x[row + i] - mean) * (x[row + i] - mean);
    const double scale = 1 / std::sqrt(squares / n + 1e-12);
    for (std::size_t i = 0; i < z(width); ++i) y[row + i] = (x[row + i] - mean) * scale * weight[i];
  }
  return y;
}

std::vector<double> linear(const std::vector<double>& x, const std::vector<double>& w, std::int64_t inputs,
                           std::int64_t outputs) {
  const std::size_t rows = x.size() / z(inputs);
  std::vector<double> y(rows * z(outputs));
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t o = 0; o < z(outputs); ++o) {
      y[r * z(outputs) + o] = std::inner_product(w.begin() + static_cast<std::ptrdiff_t>(o) * inputs,
                                                 w.begin() + static_cast<std::ptrdiff_t>(o + 1) * inputs,
                                                 x.begin() + static_cast<std::ptrdiff_t>(r) * inputs, 0.0);
    }
  }
  return y;
}

void rope(Rows& rows, std::int64_t heads, std::int64_t head_dim, double theta) {
  const std::int64_t half = head_dim / 2;
  for (std::size_t r = 0; r < rows.positions.size(); ++r) {
    for (std::int64_t h = 0; h < heads; ++h) {
      double* head = &rows.values[r * z(heads * head_dim) + z(h * head_dim)];
      for (std::int64_t i = 0; i < half; ++i) {
        const double angle = rows.positions[r] *
                             std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
        const double a = head[i], b = head[i + half];
        head[i] = a * std::cos(angle) - b * std::sin(angle);
        head[i + half] = b * std::cos(angle) + a * std::sin(angle);
      }
    }
  }
}

double silu(double x) { return x / (1 + std::exp(-x)); }
double gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }

std::vector<double> layer(const Architecture& m, const LayerWeights& w, const std::vector<double>& hidden) {
  std::vector<std::int32_t> positions(hidden.size() / z(m.hidden));
  std::iota(positions.begin(), positions.end(), 0);
  const Projected p = project(m, w, positions, hidden);
  return finish(m, w, hidden, attention(shape_of(m), p.q, p.k, p.v, m.causal));
}

std::vector<double> sharded_layer(const Architecture& m, const LayerWeights& w, const Sharding& sharding,
                                  const std::vector<double>& hidden) {
  const HeadShape shape = shape_of(m);
  const std::size_t tokens = hidden.size() / z(m.hidden);
  const auto n = static_cast<std::int64_t>(tokens);
  const auto r = first_tokens(sharding.r, n).sets, s = first_tokens(sharding.s, n).sets;
  const std::int64_t q_width = shape.q_width(), kv_width = shape.kv_width();

  // CompNodes project their rows; what they send lands at its place in the AttnNodes' slices.
  std::vector<double> q(tokens * z(q_width)), k(tokens * z(kv_width)), v(tokens * z(kv_width));
  for (const auto& rows : r) {
    const Projected p = project(m, w, rows, take(hidden, rows, m.hidden));
    put(q, rows, p.q.values, q_width);
    put(k, rows, p.k.values, kv_width);
    put(v, rows, p.v.values, kv_width);
  }
  // AttnNodes (j, k), then the merge of each row set S_j.
  std::vector<double> attended(tokens * z(q_width));
  for (const auto& row_set : s) {
    if (row_set.empty()) continue;
    std::vector<Partial> parts;
    for (const auto& column_set : s) {
      parts.push_back(partial_attention(shape, {row_set, take(q, row_set, q_width)},
                                        {column_set, take(k, column_set, kv_width)},
                                        {column_set, take(v, column_set, kv_width)}, m.causal));
    }
    put(attended, row_set, merge(shape, parts), q_width);
  }
  // The owners finish their rows.
  std::vector<double> out(hidden.size());
  for (const auto& rows : r) {
    if (rows.empty()) continue;
    put(out, rows, finish(m, w, take(hidden, rows, m.hidden), take(attended, rows, q_width)), m.hidden);
  }
  return out;
}

KvCache cache_of(const Architecture& m, const LayerWeights& w, const std::vector<std::int32_t>& positions,
                 const std::vector<double>& hidden) {
  Projected p = project(m, w, positions, take(hidden, positions, m.hidden));
  return {std::move(p.k), std::move(p.v)};
}

std::vector<KvCache> sharded_caches(const Architecture& m, const LayerWeights& w, const Sharding& sharding,
                                    const std::vector<double>& hidden) {
  const auto columns = first_tokens(sharding.s, static_cast<std::int64_t>(hidden.size()) / m.hidden).sets;
  std::vector<KvCache> caches;
  for (std::size_t j = 0; j < columns.size(); ++j) {
    for (const auto& column : columns) caches.push_back(cache_of(m, w, column, hidden));
  }
  return caches;
}

std::vector<double> decode(const Architecture& m, const LayerWeights& w, KvCache& cache,
                           std::int32_t position, const std::vector<double>& hidden) {
  const Projected p = project(m, w, {position}, hidden);
  append(cache, p);
  return finish(m, w, hidden, attention(shape_of(m), p.q, cache.k, cache.v, true));
}

std::vector<double> sharded_decode(const Architecture& m, const LayerWeights& w, const Sharding& sharding,
                                   std::vector<KvCache>& caches, std::int32_t position,
                                   const std::vector<double>& hidden) {
  const std::size_t beta = sharding.s.sets.size();
  const auto j = z(owners(sharding.s)[z(position)]);
  const Projected p = project(m, w, {position}, hidden);
  for (std::size_t row = 0; row < beta; ++row) append(caches[row * beta + j], p);
  std::vector<Partial> parts;
  for (std::size_t k = 0; k < beta; ++k) {
    const KvCache& cache = caches[j * beta + k];
    parts.push_back(partial_attention(shape_of(m), p.q, cache.k, cache.v, true));
  }
  return finish(m, w, hidden, merge(shape_of(m), parts));
}

}  // namespace tessera::models::reference
