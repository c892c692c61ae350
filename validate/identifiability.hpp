#pragma once
// What measurements can say about parameters, from the Jacobian at the solution.

#include <cstddef>
#include <vector>

#include "validate/least_squares.hpp"

namespace tessera::validate {

struct CorrelatedPair {
  std::size_t a = 0, b = 0;
  double correlation = 0;
};

struct Identifiability {
  std::vector<double> singular_values;  ///< of the weighted Jacobian by the scaled parameters, largest first
  std::vector<bool> unconstrained;      ///< no row changes by more than kNegligible over its whole range
  /// Scaled; from the covariance (J^T W J / s^2 + I / kPriorDeviation^2)^-1, s^2 the weighted residual
  /// variance: what the rows and the bounds together leave open. 0 for unconstrained ones.
  std::vector<double> standard_errors;
  Matrix correlations;  ///< by the rows alone, of the constrained ones; 0 elsewhere, 1 on the diagonal
  std::vector<CorrelatedPair> correlated;  ///< |correlation| above kCorrelated: only a combination is known
};

inline constexpr double kCorrelated = 0.95, kNegligible = 1e-4;

/// `residuals` at the solution, one per row of `jacobian`; `loss_width` as in the fit.
Identifiability identify(const Matrix& jacobian, const std::vector<double>& residuals, double loss_width);

}  // namespace tessera::validate
