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

Partial empty(const LatentShape& s, std::size_t rows) {
  const std::size_t pairs = rows * z(s.heads);
  return {std::vector<double>(pairs * z(s.value)),
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
  Partial p = empty(s, queries.positions.size());
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

Partial absorbed_latent_attention(const LatentShape& s, const LatentWeights& w, const Rows& queries,
                                  const Rows& cache, bool causal) {
  const std::int64_t qk = s.nope + s.rope, width = s.cache_width();
  Partial p = empty(s, queries.positions.size());
  std::vector<double> query(z(width)), sum(z(s.latent)), e;
  for (std::size_t r = 0; r < queries.positions.size(); ++r) {
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const double* q = &queries.values[r * z(s.query_width()) + z(h * qk)];
      std::fill(query.begin(), query.end(), 0.0);
      for (std::int64_t i = 0; i < s.nope; ++i)
        add(q[i], &w.up_k[z((h * s.nope + i) * s.latent)], query.data(), s.latent);
      std::copy_n(q + s.nope, s.rope, &query[z(s.latent)]);
      const std::size_t pair = r * z(s.heads) + z(h);
      const auto score = [&](std::size_t c) {
        return dot(query.data(), &cache.values[c * z(width)], width) * s.scale();
      };
      if (!softmax_row(cache.positions, queries.positions[r], causal, score, e, p.max[pair], p.expsum[pair]))
        continue;
      std::fill(sum.begin(), sum.end(), 0.0);
      for (std::size_t c = 0; c < e.size(); ++c)
        add(e[c] / p.expsum[pair], &cache.values[c * z(width)], sum.data(), s.latent);
      for (std::int64_t i = 0; i < s.value; ++i) {
        p.out[pair * z(s.value) + z(i)] = dot(&w.up_v[z((h * s.value + i) * s.latent)], sum.data(), s.latent);
      }
    }
  }
  return p;
}

}  // namespace tessera::models::reference
