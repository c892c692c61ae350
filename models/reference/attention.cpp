#include "models/reference/attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tessera::models::reference {

namespace {
std::size_t z(std::int64_t n) { return static_cast<std::size_t>(n); }
}  // namespace

Partial partial_attention(const HeadShape& s, const Rows& q, const Rows& k, const Rows& v, bool causal) {
  const auto rows = static_cast<std::int64_t>(q.positions.size());
  Partial p{std::vector<double>(z(rows * s.q_width())),
            std::vector<double>(z(rows * s.heads), -std::numeric_limits<double>::infinity()),
            std::vector<double>(z(rows * s.heads))};
  const double scale = 1 / std::sqrt(static_cast<double>(s.head_dim));
  std::vector<double> scores;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const std::int64_t kv_head = h / (s.heads / s.kv_heads);
      const double* query = &q.values[z(r * s.q_width() + h * s.head_dim)];
      scores.clear();
      for (std::size_t c = 0; c < k.positions.size(); ++c) {
        if (causal && k.positions[c] > q.positions[z(r)]) break;
        const double* key = &k.values[c * z(s.kv_width()) + z(kv_head * s.head_dim)];
        double dot = 0;
        for (std::int64_t d = 0; d < s.head_dim; ++d) dot += query[d] * key[d];
        scores.push_back(dot * scale);
      }
      if (scores.empty()) continue;
      const double m = *std::max_element(scores.begin(), scores.end());
      double e = 0;
      double* out = &p.out[z(r * s.q_width() + h * s.head_dim)];
      for (std::size_t c = 0; c < scores.size(); ++c) {
        const double w = std::exp(scores[c] - m);
        e += w;
        const double* value = &v.values[c * z(s.kv_width()) + z(kv_head * s.head_dim)];
        for (std::int64_t d = 0; d < s.head_dim; ++d) out[d] += w * value[d];
      }
      for (std::int64_t d = 0; d < s.head_dim; ++d) out[d] /= e;
      p.max[z(r * s.heads + h)] = m;
      p.expsum[z(r * s.heads + h)] = e;
    }
  }
  return p;
}

std::vector<double> attention(const HeadShape& shape, const Rows& q, const Rows& k, const Rows& v,
                              bool causal) {
  return partial_attention(shape, q, k, v, causal).out;
}

std::vector<double> merge(const HeadShape& s, const std::vector<Partial>& parts) {
  const std::size_t pairs = parts.front().max.size();
  std::vector<double> out(parts.front().out.size());
  for (std::size_t i = 0; i < pairs; ++i) {
    double m = -std::numeric_limits<double>::infinity();
    for (const Partial& p : parts) {
      if (p.expsum[i] > 0) m = std::max(m, p.max[i]);
    }
    double total = 0;
    for (const Partial& p : parts) {
      if (p.expsum[i] == 0) continue;  // saw nothing
      const double w = p.expsum[i] * std::exp(p.max[i] - m);
      total += w;
      for (std::int64_t d = 0; d < s.head_dim; ++d)
        out[i * z(s.head_dim) + z(d)] += w * p.out[i * z(s.head_dim) + z(d)];
    }
    if (total == 0) continue;
    for (std::int64_t d = 0; d < s.head_dim; ++d) out[i * z(s.head_dim) + z(d)] /= total;
  }
  return out;
}

}  // namespace tessera::models::reference
