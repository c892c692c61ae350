#include "validate/identifiability.hpp"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>

namespace tessera::validate {

Identifiability identify(const Matrix& jacobian, const std::vector<double>& residuals, double loss_width) {
  const std::size_t n = jacobian.columns;
  Identifiability result;
  result.unconstrained.assign(n, true);
  result.standard_errors.assign(n, 0);
  result.correlations = Matrix(n, n);
  for (std::size_t j = 0; j < n; ++j) result.correlations(j, j) = 1;
  for (std::size_t i = 0; i < jacobian.rows; ++i) {
    for (std::size_t j = 0; j < n; ++j)
      if (std::abs(jacobian(i, j)) > kNegligible) result.unconstrained[j] = false;
  }
  std::vector<std::size_t> columns;
  for (std::size_t j = 0; j < n; ++j)
    if (!result.unconstrained[j]) columns.push_back(j);
  if (columns.empty() || jacobian.rows == 0) return result;

  Eigen::MatrixXd weighted(static_cast<Eigen::Index>(jacobian.rows),
                           static_cast<Eigen::Index>(columns.size()));
  double squares = 0, weights = 0;
  for (std::size_t i = 0; i < jacobian.rows; ++i) {
    const double weight = huber_weight(residuals[i], loss_width);
    squares += weight * residuals[i] * residuals[i];
    weights += weight;
    for (std::size_t c = 0; c < columns.size(); ++c)
      weighted(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(c)) =
          std::sqrt(weight) * jacobian(i, columns[c]);
  }
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd{weighted, Eigen::ComputeThinU | Eigen::ComputeThinV};
  const Eigen::VectorXd& singular = svd.singularValues();
  for (Eigen::Index i = 0; i < singular.size(); ++i) result.singular_values.push_back(singular(i));

  // A direction that no row constrains keeps a finite, very large variance: so it shows as correlation.
  const double floor = 1e-9 * singular(0);
  Eigen::MatrixXd covariance = Eigen::MatrixXd::Zero(static_cast<Eigen::Index>(columns.size()),
                                                     static_cast<Eigen::Index>(columns.size()));
  for (Eigen::Index i = 0; i < singular.size(); ++i) {
    const double s = std::max(singular(i), floor);
    covariance += svd.matrixV().col(i) * svd.matrixV().col(i).transpose() / (s * s);
  }
  const double freedom = std::max(1.0, weights - static_cast<double>(columns.size()));
  // No simulator is within a tenth of a percent.
  const double variance = std::max(squares / freedom, 1e-6);
  const Eigen::MatrixXd information =
      weighted.transpose() * weighted / variance +
      Eigen::MatrixXd::Identity(weighted.cols(), weighted.cols()) / (kPriorDeviation * kPriorDeviation);
  const Eigen::MatrixXd posterior = information.inverse();
  for (std::size_t a = 0; a < columns.size(); ++a) {
    const auto ia = static_cast<Eigen::Index>(a);
    result.standard_errors[columns[a]] = std::sqrt(posterior(ia, ia));
    for (std::size_t b = 0; b < columns.size(); ++b) {
      const auto ib = static_cast<Eigen::Index>(b);
      const double scale = std::sqrt(covariance(ia, ia) * covariance(ib, ib));
      const double correlation = a == b ? 1 : scale > 0 ? covariance(ia, ib) / scale : 0;
      result.correlations(columns[a], columns[b]) = correlation;
      if (a < b && std::abs(correlation) > kCorrelated)
        result.correlated.push_back({columns[a], columns[b], correlation});
    }
  }
  return result;
}

}  // namespace tessera::validate
