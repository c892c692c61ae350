#pragma once
// Random arrays, and how far two arrays are apart, for tests of numerics.

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "models/reference/attention.hpp"

namespace tessera::models::testing {

inline double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

/// Normally distributed around 0.
inline std::vector<double> random_values(std::int64_t n, std::mt19937_64& random, double spread = 1) {
  std::normal_distribution<double> normal{0, spread};
  std::vector<double> v(static_cast<std::size_t>(n));
  for (double& x : v) x = normal(random);
  return v;
}

/// At positions 0, 1, 2, ...
inline reference::Rows random_rows(std::int64_t rows, std::int64_t width, std::mt19937_64& random) {
  reference::Rows r{std::vector<std::int32_t>(static_cast<std::size_t>(rows)),
                    random_values(rows * width, random)};
  std::iota(r.positions.begin(), r.positions.end(), 0);
  return r;
}

}  // namespace tessera::models::testing
