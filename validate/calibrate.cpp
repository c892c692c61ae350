#include "validate/calibrate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <stdexcept>

#include "validate/folds.hpp"

namespace tessera::validate {

namespace {

using Rows = std::vector<std::size_t>;

double rounded(double x) { return std::strtod(fmt::format("{:.4g}", x).c_str(), nullptr); }

/// The rows as a function of the parameters in use, scaled to their bounds; the others keep their values.
class Model {
 public:
  Model(const std::vector<Measurement>& rows, const std::vector<config::Parameter>& parameters,
        Predictions& predictions, double step)
      : rows_{rows}, parameters_{parameters}, predictions_{predictions}, step_{step} {
    for (std::size_t j = 0; j < parameters.size(); ++j) {
      used_.push_back(j);
      start_.push_back(parameters[j].value);
    }
  }

  const std::vector<std::size_t>& used() const { return used_; }

  std::vector<double> scaled(const Point& point) const {
    std::vector<double> x;
    for (const std::size_t j : used_) {
      const config::Bounds& b = *parameters_[j].bounds;
      x.push_back(std::clamp((point[j] - b.low) / (b.high - b.low), 0.0, 1.0));
    }
    return x;
  }
  Point point(const std::vector<double>& x) const {
    Point p = start_;
    for (std::size_t c = 0; c < used_.size(); ++c) {
      const config::Bounds& b = *parameters_[used_[c]].bounds;
      // Back to exactly the value it started from: so the start is the file's own point.
      const double value = std::clamp(b.low + x[c] * (b.high - b.low), b.low, b.high);
      p[used_[c]] = std::abs(value - start_[used_[c]]) < 1e-12 * (b.high - b.low) ? start_[used_[c]] : value;
    }
    return p;
  }

  std::vector<double> residuals(const std::vector<double>& x, const Rows& rows, const std::string& what) {
    const Point p = point(x);
    predictions_.prepare({{p, rows}}, what);
    std::vector<double> r;
    for (const std::size_t row : rows) r.push_back(residual(p, row));
    return r;
  }

  /// Of all rows, by the parameters in use.
  Matrix jacobian(const std::vector<double>& x, const std::string& what) {
    Rows all(rows_.size());
    std::iota(all.begin(), all.end(), std::size_t{0});
    const Point here = point(x);
    std::vector<Predictions::Wanted> wanted{{here, all}};
    std::vector<double> steps;
    for (std::size_t c = 0; c < used_.size(); ++c) {
      std::vector<double> moved = x;
      steps.push_back(x[c] + step_ <= 1 ? step_ : -step_);
      moved[c] += steps[c];
      wanted.push_back({point(moved), affected_.empty() ? all : affected_[used_[c]]});
    }
    predictions_.prepare(wanted, what);
    Matrix j(rows_.size(), used_.size());
    for (std::size_t c = 0; c < used_.size(); ++c) {
      for (const std::size_t row : wanted[c + 1].rows)
        j(row, c) = (residual(wanted[c + 1].point, row) - residual(here, row)) / steps[c];
    }
    return j;
  }

  /// Takes out of use what `j`, the first Jacobian, says has no effect, and remembers which rows have any.
  void keep_what_matters(const Matrix& j) {
    affected_.assign(parameters_.size(), {});
    std::vector<std::size_t> kept;
    for (std::size_t c = 0; c < used_.size(); ++c) {
      double most = 0;
      for (std::size_t row = 0; row < j.rows; ++row) {
        if (j(row, c) != 0) affected_[used_[c]].push_back(row);
        most = std::max(most, std::abs(j(row, c)));
      }
      if (most > kNegligible) kept.push_back(used_[c]);
    }
    used_ = std::move(kept);
  }

 private:
  double residual(const Point& p, std::size_t row) const {
    return std::log(predictions_.us(p, row) / rows_[row].measured_us);
  }

  const std::vector<Measurement>& rows_;
  const std::vector<config::Parameter>& parameters_;
  Predictions& predictions_;
  const double step_;
  Point start_;
  std::vector<std::size_t> used_;  // indices of parameters, ascending
  std::vector<Rows> affected_;     // rows by parameter; empty: not known yet
};

/// Leaves the rows that can be simulated, `kept` by index; the rest are skipped, or failures, which are
/// returned.
std::vector<Comparison::Failed> leave_out_impossible(Measurements& measurements,
                                                     const Predictions& predictions, const Point& start,
                                                     Rows& kept) {
  std::vector<Measurement> possible;
  std::vector<Comparison::Failed> failed;
  kept.clear();
  for (std::size_t i = 0; i < measurements.rows.size(); ++i) {
    const Measurement& row = measurements.rows[i];
    const Predictions::Trouble trouble = predictions.trouble(start, i);
    if (!trouble.invalid.empty()) {
      measurements.skip(row.file, row.kind, trouble.invalid);
    } else if (!trouble.failure.empty()) {
      failed.push_back({row, trouble.failure});
    } else {
      possible.push_back(row);
      kept.push_back(i);
    }
  }
  measurements.rows = std::move(possible);
  return failed;
}

Comparison comparison_at(const std::vector<Measurement>& rows, const Predictions& predictions,
                         const std::vector<Point>& point_of_row) {
  Comparison c;
  for (std::size_t i = 0; i < rows.size(); ++i)
    c.rows.push_back({rows[i], predictions.us(point_of_row[i], i), {}});
  return c;
}

/// The rows `which` of a matrix.
Matrix rows_of(const Matrix& m, const Rows& which) {
  Matrix part(which.size(), m.columns);
  for (std::size_t i = 0; i < which.size(); ++i)
    for (std::size_t c = 0; c < m.columns; ++c) part(i, c) = m(which[i], c);
  return part;
}

}  // namespace

CalibrationFit calibrate(Measurements measurements, const std::vector<config::Parameter>& parameters,
                         const GpuAt& gpu_at, const CalibrateOptions& options) {
  Point start;
  for (const config::Parameter& p : parameters) start.push_back(p.value);
  CalibrationFit result;

  // The file as it stands: also says which rows can be simulated.
  std::vector<Measurement> everything = measurements.rows;
  Predictions first{everything, gpu_at, options.evaluate};
  Rows all(everything.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  first.prepare({{start, all}}, "before");
  Rows kept;
  std::vector<Comparison::Failed> failed = leave_out_impossible(measurements, first, start, kept);

  const std::vector<Measurement>& rows = measurements.rows;
  const bool fits = !parameters.empty() && options.fit.max_iterations > 0;
  if (fits && rows.size() <= parameters.size())
    throw std::invalid_argument{
        fmt::format("{} parameters need more rows than {}", parameters.size(), rows.size())};
  // What is known of the first point is not simulated again.
  Predictions predictions{rows, gpu_at, options.evaluate};
  predictions.adopt(first, start, kept);
  all.resize(rows.size());

  std::vector<std::string> kinds, keys;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    kinds.push_back(rows[i].kind);
    keys.push_back(predictions.key(start, i));
  }
  result.fold_of_row = folds_of(kinds, keys, options.folds, options.seed);

  for (const config::Parameter& p : parameters)
    result.parameters.push_back({.before = p, .value = p.value, .fold_least = p.value, .fold_most = p.value});
  const std::vector<Point> at_start(rows.size(), start);
  result.before = comparison_at(rows, predictions, at_start);
  Point fitted = start;
  std::vector<Point> held_out = at_start;

  if (fits) {
    Model model{rows, parameters, predictions, options.step};
    const Matrix at_first = model.jacobian(model.scaled(start), "first Jacobian");
    model.keep_what_matters(at_first);
    for (ParameterFit& p : result.parameters) p.unconstrained = true;
    for (const std::size_t j : model.used()) result.parameters[j].unconstrained = false;

    std::vector<double> solution;
    FitOptions with_prior = options.fit;
    Matrix jacobian;
    if (!model.used().empty()) {
      const LeastSquares whole{
          .residuals = [&](const std::vector<double>& x) { return model.residuals(x, all, "fit"); },
          .jacobian = [&](const std::vector<double>& x) { return model.jacobian(x, "fit: Jacobian"); }};
      with_prior.centre = model.scaled(start);
      result.fit = fit(whole, with_prior.centre, with_prior);
      solution = result.fit.x;
      jacobian = model.jacobian(solution, "Jacobian at the solution");
    }

    // What the rows say of the parameters; columns of unconstrained ones stay 0.
    Matrix full(rows.size(), parameters.size());
    for (std::size_t c = 0; c < model.used().size(); ++c)
      for (std::size_t i = 0; i < rows.size(); ++i) full(i, model.used()[c]) = jacobian(i, c);
    result.identifiability = identify(full, model.residuals(solution, all, "fit"), options.fit.loss_width);
    fitted = model.point(solution);
    for (const std::size_t j : model.used()) {
      ParameterFit& p = result.parameters[j];
      const config::Bounds& b = *p.before.bounds;
      const double scaled_error = result.identifiability.standard_errors[j];
      fitted[j] = p.value = std::clamp(rounded(fitted[j]), b.low, b.high);
      p.standard_error = scaled_error * (b.high - b.low);
      p.weak = scaled_error > kPriorDeviation / 2;
      p.at_bound = std::min(p.value - b.low, b.high - p.value) < 1e-3 * (b.high - b.low);
    }

    for (int fold = 0; fold < options.folds && !model.used().empty(); ++fold) {
      Rows in, out;
      for (const std::size_t row : all) (result.fold_of_row[row] == fold ? out : in).push_back(row);
      const std::string what = fmt::format("fold {} of {}", fold + 1, options.folds);
      const Matrix frozen = rows_of(jacobian, in);
      const LeastSquares part{
          .residuals = [&](const std::vector<double>& x) { return model.residuals(x, in, what); },
          .jacobian = [&](const std::vector<double>&) { return frozen; }};
      FitOptions fold_options = with_prior;
      fold_options.max_iterations = options.fold_iterations;
      const Point point = model.point(fit(part, solution, fold_options).x);
      predictions.prepare({{point, out}}, what);
      for (const std::size_t row : out) held_out[row] = point;
      for (const std::size_t j : model.used()) {
        ParameterFit& p = result.parameters[j];
        p.fold_least = fold == 0 ? point[j] : std::min(p.fold_least, point[j]);
        p.fold_most = fold == 0 ? point[j] : std::max(p.fold_most, point[j]);
      }
    }
    predictions.prepare({{fitted, all}}, "after");
  }

  result.fitted = comparison_at(rows, predictions, std::vector<Point>(rows.size(), fitted));
  result.held_out = comparison_at(rows, predictions, held_out);
  result.before.skipped = result.fitted.skipped = result.held_out.skipped = measurements.skipped;
  result.before.failed = std::move(failed);
  result.simulated = first.simulated() + predictions.simulated();
  result.events = first.events() + predictions.events();
  return result;
}

}  // namespace tessera::validate
