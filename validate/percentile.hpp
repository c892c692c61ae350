#pragma once
// Percentiles of a few values.

#include <algorithm>
#include <cstddef>
#include <vector>

namespace tessera::validate {

/// `share` (0 to 1) of the way through values in ascending order, at least one; interpolated linearly between
/// two.
inline double percentile(const std::vector<double>& sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - static_cast<double>(below));
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return percentile(values, 0.5);
}

}  // namespace tessera::validate
