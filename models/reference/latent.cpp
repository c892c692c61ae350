#include "models/reference/latent.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tessera::models::reference {

namespace {

std::size_t z(std::int64_t n) { return static_cast<std::size_t>(n); }

/// y += a x
void add(double a, const double* x, double* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] += a * x[i];
}
double dot(const double* x, const double* y, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += x[i] * y[i];
  return sum;
}

/// One query row of one head: weights of the visible rows, whose scores `score(row)` gives, in `e`; false if
/// it sees none.
template <class Score>
bool softmax_row(const std::vector<std::int32_t>& positions, std::int32_t at, bool causal, Score score,
                 std::vector<double>& e, double& max, double& expsum) {
  e.clear();
  for (std::size_t c = 0; c < positions.size() && !(causal && positions[c] > at); ++c) e.push_back(score(c));
  if (e.empty()) return false;
  max = *std::max_element(e.begin(), e.end());
  expsum = 0;
  for (double& x : e) expsum += x = std::exp(x - max);
  return true;
}

/// A result of `width` columns of each head.
Partial empty(const LatentShape& s, std::size_t rows, std::int64_t width) {
  const std::size_t pairs = rows * z(s.heads);
  return {std::vector<double>(pairs * z(width)),
          std::vector<double>(pairs, -std::numeric_limits<double>::infinity()), std::vector<double>(pairs)};
}

}  // namespace

double LatentShape::scale() const { return 1 / std::sqrt(static_cast<double>(nope + rope)); }

Rows latent_cache(const LatentShape& s, const std::vector<std::int32_t>& positions,
                  const std::vector<double>& latents, const std::vector<double>& rope_keys) {
  Rows cache{positions, {}};
  cache.values.reserve(positions.size() * z(s.cache_width()));
  for (std::size_t r = 0; r < positions.size(); ++r) {
    for (std::int64_t i = 0; i < s.latent; ++i) cache.values.push_back(latents[r * z(s.latent) + z(i)]);
    for (std::int64_t i = 0; i < s.rope; ++i) cache.values.push_back(rope_keys[r * z(s.rope) + z(i)]);
  }
  return cache;
}

Partial naive_latent_attention(const LatentShape& s, const LatentWeights& w, const Rows& queries,
                               const Rows& cache, bool causal) {
  const std::size_t columns = cache.positions.size();
  const std::int64_t qk = s.nope + s.rope;
  Partial p = empty(s, queries.positions.size(), s.value);
  std::vector<double> k(columns * z(qk)), v(columns * z(s.value)), e;
  for (std::int64_t h = 0; h < s.heads; ++h) {
    for (std::size_t c = 0; c < columns; ++c) {
      const double* row = &cache.values[c * z(s.cache_width())];
      for (std::int64_t i = 0; i < s.nope; ++i)
        k[c * z(qk) + z(i)] = dot(&w.up_k[z((h * s.nope + i) * s.latent)], row, s.latent);
      std::copy_n(row + s.latent, s.rope, &k[c * z(qk) + z(s.nope)]);
      for (std::int64_t i = 0; i < s.value; ++i)
        v[c * z(s.value) + z(i)] = dot(&w.up_v[z((h * s.value + i) * s.latent)], row, s.latent);
    }
    for (std::size_t r = 0; r < queries.positions.size(); ++r) {
      const double* q = &queries.values[r * z(s.query_width()) + z(h * qk)];
      const std::size_t pair = r * z(s.heads) + z(h);
      const auto score = [&](std::size_t c) { return dot(q, &k[c * z(qk)], qk) * s.scale(); };
      if (!softmax_row(cache.positions, queries.positions[r], causal, score, e, p.max[pair], p.expsum[pair]))
        continue;
      for (std::size_t c = 0; c < e.size(); ++c)
        add(e[c] / p.expsum[pair], &v[c * z(s.value)], &p.out[pair * z(s.value)], s.value);
    }
  }
  return p;
}

Rows absorb(const LatentShape& s, const LatentWeights& w, const Rows& queries) {
  const std::int64_t qk = s.nope + s.rope, width = s.cache_width();
  const std::size_t pairs = queries.positions.size() * z(s.heads);
  Rows absorbed{queries.positions, std::vector<double>(pairs * z(width))};
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    const double* from = &queries.values[pair * z(qk)];
    double* to = &absorbed.values[pair * z(width)];
    const auto h = static_cast<std::int64_t>(pair % z(s.heads));
    for (std::int64_t i = 0; i < s.nope; ++i)
      add(from[i], &w.up_k[z((h * s.nope + i) * s.latent)], to, s.latent);
    std::copy_n(from + s.nope, s.rope, to + s.latent);
  }
  return absorbed;
}

Partial attend_to_latents(const LatentShape& s, const Rows& absorbed, const Rows& cache, bool causal) {
  const std::int64_t width = s.cache_width();
  Partial p = empty(s, absorbed.positions.size(), s.latent);
  std::vector<double> e;
  for (std::size_t pair = 0; pair < absorbed.positions.size() * z(s.heads); ++pair) {
    const auto score = [&](std::size_t c) {
      return dot(&absorbed.values[pair * z(width)], &cache.values[c * z(width)], width) * s.scale();
    };
    if (!softmax_row(cache.positions, absorbed.positions[pair / z(s.heads)], causal, score, e, p.max[pair],
                     p.expsum[pair]))
      continue;
    for (std::size_t c = 0; c < e.size(); ++c)
      add(e[c] / p.expsum[pair], &cache.values[c * z(width)], &p.out[pair * z(s.latent)], s.latent);
  }
  return p;
}

std::vector<double> values_of(const LatentShape& s, const LatentWeights& w,
                              const std::vector<double>& latents) {
  const std::size_t pairs = latents.size() / z(s.latent);
  std::vector<double> values(pairs * z(s.value));
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    const auto h = static_cast<std::int64_t>(pair % z(s.heads));
    for (std::int64_t i = 0; i < s.value; ++i) {
      values[pair * z(s.value) + z(i)] =
          dot(&w.up_v[z((h * s.value + i) * s.latent)], &latents[pair * z(s.latent)], s.latent);
    }
  }
  return values;
}

Partial absorbed_latent_attention(const LatentShape& s, const LatentWeights& w, const Rows& queries,
                                  const Rows& cache, bool causal) {
  Partial p = attend_to_latents(s, absorb(s, w, queries), cache, causal);
  p.out = values_of(s, w, p.out);
  return p;
}

}  // namespace tessera::models::reference
