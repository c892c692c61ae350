#include "validate/least_squares.hpp"

#include <ceres/ceres.h>

#include <cmath>
#include <exception>
#include <memory>
#include <stdexcept>
#include <utility>

namespace tessera::validate {

namespace {

/// Computes all residuals at once, before Ceres asks for them one by one: a simulator's evaluations are
/// batched. Exceptions cannot pass through Ceres, so they are kept.
class Shared : public ceres::EvaluationCallback {
 public:
  Shared(const LeastSquares& problem, const std::vector<double>& x) : problem_{problem}, x_{x} {}

  void PrepareForEvaluation(bool evaluate_jacobians, bool new_point) override {
    if (thrown_) return;
    try {
      // The Jacobian first: its batch holds the point itself.
      if (evaluate_jacobians && (new_point || jacobian_.rows == 0)) {
        jacobian_ = problem_.jacobian(x_);
      } else if (new_point) {
        jacobian_ = {};
      }
      if (new_point || residuals_.empty()) residuals_ = problem_.residuals(x_);
    } catch (...) {
      thrown_ = std::current_exception();
    }
  }

  bool failed() const { return thrown_ != nullptr; }
  void rethrow() const {
    if (thrown_) std::rethrow_exception(thrown_);
  }
  double residual(std::size_t row) const { return residuals_[row]; }
  const Matrix& jacobian() const { return jacobian_; }

 private:
  const LeastSquares& problem_;
  const std::vector<double>& x_;
  std::vector<double> residuals_;
  Matrix jacobian_;
  std::exception_ptr thrown_;
};

/// One residual: each has a loss of its own.
class Row : public ceres::CostFunction {
 public:
  Row(const Shared& shared, std::size_t row, std::size_t parameters) : shared_{shared}, row_{row} {
    set_num_residuals(1);
    mutable_parameter_block_sizes()->push_back(static_cast<int>(parameters));
  }
  bool Evaluate(const double* const*, double* residuals, double** jacobians) const override {
    if (shared_.failed()) return false;
    residuals[0] = shared_.residual(row_);
    if (jacobians != nullptr && jacobians[0] != nullptr) {
      const Matrix& j = shared_.jacobian();
      for (std::size_t c = 0; c < j.columns; ++c) jacobians[0][c] = j(row_, c);
    }
    return true;
  }

 private:
  const Shared& shared_;
  const std::size_t row_;
};

/// Draws each parameter to its centre.
class Prior : public ceres::CostFunction {
 public:
  Prior(std::vector<double> centre, double weight) : centre_{std::move(centre)}, weight_{weight} {
    set_num_residuals(static_cast<int>(centre_.size()));
    mutable_parameter_block_sizes()->push_back(static_cast<int>(centre_.size()));
  }
  bool Evaluate(const double* const* x, double* residuals, double** jacobians) const override {
    const std::size_t n = centre_.size();
    for (std::size_t i = 0; i < n; ++i) {
      residuals[i] = weight_ * (x[0][i] - centre_[i]);
      if (jacobians == nullptr || jacobians[0] == nullptr) continue;
      for (std::size_t c = 0; c < n; ++c) jacobians[0][i * n + c] = i == c ? weight_ : 0;
    }
    return true;
  }

 private:
  const std::vector<double> centre_;
  const double weight_;
};

}  // namespace

double huber_weight(double residual, double width) {
  return std::abs(residual) <= width ? 1 : width / std::abs(residual);
}

Fit fit(const LeastSquares& least_squares, const std::vector<double>& start, const FitOptions& options) {
  Fit result{.x = start};
  Shared shared{least_squares, result.x};
  ceres::Problem::Options problem_options;
  problem_options.evaluation_callback = &shared;
  ceres::Problem problem{problem_options};
  ceres::LossFunction* loss = new ceres::HuberLoss{options.loss_width};  // the problem owns it
  const std::size_t rows = least_squares.residuals(start).size();
  for (std::size_t i = 0; i < rows; ++i)
    problem.AddResidualBlock(new Row{shared, i, start.size()}, loss, result.x.data());
  if (!options.centre.empty())
    problem.AddResidualBlock(new Prior{options.centre, options.prior_noise / kPriorDeviation}, nullptr,
                             result.x.data());
  for (int c = 0; c < static_cast<int>(start.size()); ++c) {
    problem.SetParameterLowerBound(result.x.data(), c, 0);
    problem.SetParameterUpperBound(result.x.data(), c, 1);
  }
  ceres::Solver::Options solver;
  solver.linear_solver_type = ceres::DENSE_QR;
  solver.max_num_iterations = options.max_iterations;
  solver.function_tolerance = options.tolerance;
  solver.parameter_tolerance = options.tolerance;
  // Values only: a gradient costs as many simulations as there are parameters.
  solver.line_search_interpolation_type = ceres::QUADRATIC;
  solver.max_num_line_search_step_size_iterations = 3;
  solver.initial_trust_region_radius = 1;  // the box: the model is not linear over more
  solver.num_threads = 1;
  solver.logging_type = ceres::SILENT;
  ceres::Solver::Summary summary;
  ceres::Solve(solver, &problem, &summary);
  shared.rethrow();
  if (!summary.IsSolutionUsable()) throw std::runtime_error{"least squares: " + summary.message};
  result.loss_before = summary.initial_cost;
  result.loss = summary.final_cost;
  result.iterations = static_cast<int>(summary.iterations.size()) - 1;
  result.converged = summary.termination_type == ceres::CONVERGENCE;
  return result;
}

}  // namespace tessera::validate
