#pragma once
// Fits a few hardware parameters to measured kernels, and says how well rows are predicted that were held
// out.
//
// The residual of a row is ln(simulated / measured): a ratio, so that short and long kernels count alike, and
// a kernel simulated twice as slow is as wrong as one twice as fast. The Jacobian is by one-sided differences
// with a step of a twentieth of a parameter's range: the simulator's output is smooth only piecewise (CTAs
// are scheduled, tiles chosen, clocks governed in steps), and a small step would measure its grain. A row on
// which a parameter has exactly no effect at the start is not simulated again for it: the residuals are
// always exact, only the direction of search leaves that out. All simulations of a Jacobian are one batch.

#include <cstdint>
#include <string>
#include <vector>

#include "configs/reader/parameters.hpp"
#include "validate/comparison.hpp"
#include "validate/identifiability.hpp"
#include "validate/least_squares.hpp"
#include "validate/predictions.hpp"

namespace tessera::validate {

struct CalibrateOptions {
  FitOptions fit;
  int folds = 5;
  /// Fits of the folds start at the full fit and keep its Jacobian: they move little.
  int fold_iterations = 4;
  double step = 0.05;  ///< of the differences, of a parameter's range
  std::uint64_t seed = 0;
  EvaluateJobs evaluate;
};

struct ParameterFit {
  config::Parameter before;
  double value = 0;            ///< to four significant digits
  double standard_error = 0;   ///< 0 if unconstrained, or nothing was fitted
  bool unconstrained = false;  ///< no effect on any row: left as it was
  bool weak = false;           ///< the rows leave it more than half as uncertain as its bounds alone do
  bool at_bound = false;
  double fold_least = 0, fold_most = 0;  ///< over the fits of the folds
};

struct CalibrationFit {
  std::vector<ParameterFit> parameters;  ///< in the order given
  Comparison before, fitted,
      held_out;  ///< the same rows in the same order; without results of the simulation
  std::vector<int> fold_of_row;
  Identifiability identifiability;  ///< by index into `parameters`; empty if nothing was fitted
  Fit fit;
  std::size_t simulated = 0;  ///< kernels, over all values of the parameters
  std::uint64_t events = 0;
};

/// Every parameter needs bounds that hold its value. With no parameters, or no iterations, nothing is fitted
/// and the three comparisons are equal. std::invalid_argument if there are too few rows for the folds or the
/// parameters; std::runtime_error with file and line if the simulator breaks on a row only after the start. A
/// row on which it breaks at the start is in before.failed, and in nothing else.
CalibrationFit calibrate(Measurements measurements, const std::vector<config::Parameter>& parameters,
                         const GpuAt& gpu_at, const CalibrateOptions& options);

}  // namespace tessera::validate
