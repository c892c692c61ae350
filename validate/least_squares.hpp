#pragma once
// Bounded robust least squares (Ceres) of a few parameters, for a model that is expensive and only piecewise
// smooth.

#include <functional>
#include <string>
#include <vector>

namespace tessera::validate {

/// Row-major: value(i, j) belongs to row i and column j.
struct Matrix {
  std::size_t rows = 0, columns = 0;
  std::vector<double> values;

  Matrix() = default;
  Matrix(std::size_t r, std::size_t c) : rows{r}, columns{c}, values(r * c, 0.0) {}
  double& operator()(std::size_t i, std::size_t j) { return values[i * columns + j]; }
  double operator()(std::size_t i, std::size_t j) const { return values[i * columns + j]; }
};

/// Every parameter is scaled so that its bounds are 0 and 1.
struct LeastSquares {
  std::function<std::vector<double>(const std::vector<double>& x)> residuals;
  std::function<Matrix(const std::vector<double>& x)> jacobian;  ///< of the residuals, by x
};

/// The standard deviation of a number of which only the bounds, here 0 and 1, are known: sqrt(1 / 12).
inline constexpr double kPriorDeviation = 0.288675134594812882;

struct FitOptions {
  /// Huber's loss: a residual r counts r^2 up to this and grows linearly beyond, so that outliers do not
  /// decide.
  double loss_width = 0.1;
  /// What is known without the rows: each parameter lies around `centre`, as far off as its bounds let it
  /// (above). The rows outweigh that as soon as they say more, at a noise of `prior_noise`; where they say
  /// nothing, it keeps a parameter from being fitted to noise. Empty: no prior.
  std::vector<double> centre;
  double prior_noise = 0.05;
  int max_iterations = 8;   ///< 0: nothing is fitted
  double tolerance = 1e-3;  ///< relative, of the loss; and of x: what is less is below the model's grain
};

struct Fit {
  std::vector<double> x;
  double loss_before = 0, loss = 0;  ///< half the sum of Huber's loss, and of the prior's squares
  int iterations = 0;
  bool converged = false;  ///< else stopped by max_iterations
};

/// Minimises the sum of the robust losses over the unit box by Levenberg-Marquardt with a projected line
/// search, from `start` inside it. Deterministic. Throws std::runtime_error if the solver fails; what the
/// functions throw passes through.
Fit fit(const LeastSquares& problem, const std::vector<double>& start, const FitOptions& options);

/// The weight of a residual under Huber's loss: 1 up to `width`, width / |r| beyond.
double huber_weight(double residual, double width);

}  // namespace tessera::validate
