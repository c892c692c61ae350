#pragma once
// One query row in float64: softmax(q k^T scale) v over the keys that it sees.

#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

namespace tessera::measure {

/// Keys 0 to count - 1.
inline std::vector<std::int64_t> first_keys(std::int64_t count) {
  std::vector<std::int64_t> keys(static_cast<std::size_t>(count));
  std::iota(keys.begin(), keys.end(), 0);
  return keys;
}

struct Attended {
  std::vector<double> out;
  double max = -std::numeric_limits<double>::infinity(), expsum = 0;
};

/// `q(d)`, `k(key, d)`, `v(key, d)`; `keys`: those that are seen.
template <class Q, class K, class V>
Attended attend(const std::vector<std::int64_t>& keys, std::int64_t qk_dim, std::int64_t v_dim, double scale,
                Q q, K k, V v) {
  std::vector<double> row(static_cast<std::size_t>(qk_dim)), scores;
  for (std::int64_t d = 0; d < qk_dim; ++d) row[static_cast<std::size_t>(d)] = q(d);
  Attended result;
  result.out.assign(static_cast<std::size_t>(v_dim), 0);
  for (const std::int64_t key : keys) {
    double score = 0;
    for (std::int64_t d = 0; d < qk_dim; ++d) score += row[static_cast<std::size_t>(d)] * k(key, d);
    scores.push_back(score * scale);
    result.max = std::fmax(result.max, scores.back());
  }
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const double weight = std::exp(scores[i] - result.max);
    result.expsum += weight;
    for (std::int64_t d = 0; d < v_dim; ++d)
      result.out[static_cast<std::size_t>(d)] += weight * v(keys[i], d);
  }
  if (result.expsum > 0)
    for (double& x : result.out) x /= result.expsum;
  return result;
}

}  // namespace tessera::measure
