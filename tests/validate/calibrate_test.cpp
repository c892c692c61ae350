// Calibration against an evaluator of known parameters, in place of the simulator.

#include "validate/calibrate.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <map>
#include <random>
#include <set>
#include <stdexcept>

#include "validate/calibration_record.hpp"
#include "validate/folds.hpp"
#include "validate/shapes.hpp"
#include "validate/statistics.hpp"

namespace tessera::validate {
namespace {

using Catch::Approx;

/// A closed form with three parameters that GEMMs of different shapes tell apart, and one, zero_share, that
/// none does.
double analytic_us(const GpuSpec& gpu, const models::Gemm& g) {
  const double flops = 2.0 * static_cast<double>(g.m * g.n * g.k);
  const double bytes = 2.0 * static_cast<double>(g.m * g.k + g.n * g.k + g.m * g.n);
  return gpu.launch.graph_launch_us + flops / (gpu.sm.tensor_flops_per_cycle * 1e5) +
         bytes / (gpu.l2.gpc_write_bytes_per_cycle * 1e3);
}

const std::vector<config::Parameter> kParameters{
    {.key = "launch", .value = 1.0, .bounds = config::Bounds{0.2, 4}},
    {.key = "write", .value = 500, .bounds = config::Bounds{200, 800}},
    {.key = "tensor", .value = 3000, .bounds = config::Bounds{1000, 5000}},
    {.key = "zero_share", .value = 0.5, .bounds = config::Bounds{0, 1}}};

GpuSpec gpu_at(const Point& p) {
  GpuSpec gpu;
  gpu.gpc_sms = {16};
  gpu.launch.graph_launch_us = p[0];
  gpu.l2.gpc_write_bytes_per_cycle = p[1];
  gpu.sm.tensor_flops_per_cycle = p[2];
  gpu.power.tensor_zero_share = p[3];
  return gpu;
}

const Point kTruth{2.5, 410, 4100, 0.5};

Measurement gemm(std::int64_t m, std::int64_t n, std::int64_t k) {
  Measurement row = gemm_row(m, n, k, models::Dtype::bf16);
  row.file = "f.csv";
  row.line = static_cast<int>(m);
  return row;
}

/// Rows of all shapes, timed at kTruth with a spread of `noise`; every `outlier`th takes twice as long.
Measurements measured(double noise = 0, int outlier = 0) {
  Measurements all;
  std::mt19937_64 random{7};
  int count = 0;
  for (const std::int64_t m : {16, 64, 256, 1024}) {
    for (const std::int64_t n : {128, 1024, 4096}) {
      for (const std::int64_t k : {64, 512, 4096, 8192}) {
        Measurement row = gemm(m, n, k);
        const double u = static_cast<double>(random() % 2001) / 1000 - 1;
        row.measured_us = analytic_us(gpu_at(kTruth), std::get<models::Gemm>(row.op)) * std::exp(noise * u);
        if (outlier > 0 && ++count % outlier == 0) row.measured_us *= 2;
        all.rows.push_back(row);
      }
    }
  }
  return all;
}

struct Evaluator {
  std::size_t kernels = 0, batches = 0;
  double grain = 0;  ///< times come in steps of this share, as a simulator's do

  EvaluateJobs function() {
    return [this](const std::vector<sim::KernelJob>& jobs, const std::string&) {
      ++batches;
      std::vector<sim::KernelOutcome> outcomes(jobs.size());
      for (std::size_t i = 0; i < jobs.size(); ++i) {
        ++kernels;
        const auto& g = std::get<models::Gemm>(jobs[i].op);
        if (g.m == 13) outcomes[i].invalid = "13 is no size";
        if (g.m == 14) outcomes[i].failure = "it broke";
        double us = analytic_us(*jobs[i].gpu, g);
        if (grain > 0) us = std::exp(grain * std::round(std::log(us) / grain));
        outcomes[i].result.latency = Time::from_us(us);
      }
      return outcomes;
    };
  }
};

CalibrateOptions options_with(Evaluator& evaluator) {
  CalibrateOptions options;
  options.fit.max_iterations = 20;
  options.evaluate = evaluator.function();
  return options;
}

double mape(const Comparison& c) { return errors_of(by_kind(c).front().rows).mape_percent; }

TEST_CASE("known parameters are recovered, within their bounds") {
  Evaluator evaluator;
  const CalibrationFit fit = calibrate(measured(), kParameters, gpu_at, options_with(evaluator));
  for (std::size_t j = 0; j < 3; ++j) {
    INFO(fit.parameters[j].before.key);
    CHECK(fit.parameters[j].value == Approx(kTruth[j]).epsilon(0.02));
    CHECK_FALSE(fit.parameters[j].unconstrained);
    CHECK_FALSE(fit.parameters[j].weak);
    CHECK_FALSE(fit.parameters[j].at_bound);
  }
  CHECK(mape(fit.before) > 20);
  CHECK(mape(fit.fitted) < 0.5);
  CHECK(mape(fit.held_out) < 1);
  CHECK(fit.fit.loss < 1e-2 * fit.fit.loss_before);
  CHECK(fit.held_out.rows.size() == measured().rows.size());
}

TEST_CASE("a parameter that no row depends on is named and left alone") {
  Evaluator evaluator;
  const CalibrationFit fit = calibrate(measured(0.05), kParameters, gpu_at, options_with(evaluator));
  CHECK(fit.parameters[3].unconstrained);
  CHECK(fit.parameters[3].value == 0.5);
  CHECK(fit.identifiability.unconstrained == std::vector<bool>{false, false, false, true});
  CHECK(fit.identifiability.singular_values.size() == 3);
}

TEST_CASE("noise gives standard errors that cover the truth, and held-out rows are worse than fitted ones") {
  Evaluator evaluator;
  const CalibrationFit fit = calibrate(measured(0.1), kParameters, gpu_at, options_with(evaluator));
  for (std::size_t j = 0; j < 3; ++j) {
    INFO(fit.parameters[j].before.key);
    CHECK(fit.parameters[j].standard_error > 0);
    CHECK(std::abs(fit.parameters[j].value - kTruth[j]) < 3 * fit.parameters[j].standard_error);
    CHECK(fit.parameters[j].fold_least <= fit.parameters[j].fold_most);
  }
  // Uniform in +-10 %: a mean of 5 %.
  CHECK(mape(fit.fitted) == Approx(5).margin(1));
  CHECK(mape(fit.held_out) > mape(fit.fitted));
  CHECK(mape(fit.held_out) < 7);
}

TEST_CASE("outliers do not decide") {
  Evaluator evaluator;
  const CalibrationFit robust = calibrate(measured(0.02, 8), kParameters, gpu_at, options_with(evaluator));
  CalibrateOptions plain_options = options_with(evaluator);
  plain_options.fit.loss_width = 100;  // least squares without a robust loss
  const CalibrationFit plain = calibrate(measured(0.02, 8), kParameters, gpu_at, plain_options);
  double robust_off = 0, plain_off = 0;
  for (std::size_t j = 0; j < 3; ++j) {
    robust_off = std::max(robust_off, std::abs(std::log(robust.parameters[j].value / kTruth[j])));
    plain_off = std::max(plain_off, std::abs(std::log(plain.parameters[j].value / kTruth[j])));
  }
  CHECK(robust_off < 0.06);
  CHECK(plain_off > 1.5 * robust_off);
}

TEST_CASE("an output in steps does not stop the fit") {
  Evaluator evaluator{.grain = 0.01};
  const CalibrationFit fit = calibrate(measured(), kParameters, gpu_at, options_with(evaluator));
  for (std::size_t j = 0; j < 3; ++j) CHECK(fit.parameters[j].value == Approx(kTruth[j]).epsilon(0.05));
}

TEST_CASE("a truth beyond the bounds ends at the bound, and is said to") {
  Evaluator evaluator;
  std::vector<config::Parameter> parameters = kParameters;
  parameters[0].bounds = config::Bounds{0.2, 1.5};
  const CalibrationFit fit = calibrate(measured(), parameters, gpu_at, options_with(evaluator));
  CHECK(fit.parameters[0].value == 1.5);
  CHECK(fit.parameters[0].at_bound);
}

TEST_CASE("parameters of which only a combination matters are named as a pair") {
  Evaluator evaluator;
  // Two factors of one rate.
  const std::vector<config::Parameter> parameters{
      kParameters[0],
      {.key = "first", .value = 1.2, .bounds = config::Bounds{0.5, 2}},
      {.key = "second", .value = 0.9, .bounds = config::Bounds{0.5, 2}}};
  const auto at = [](const Point& p) { return gpu_at({p[0], 410 * p[1] * p[2], 4100, 0.5}); };
  const CalibrationFit fit = calibrate(measured(0.05), parameters, at, options_with(evaluator));
  REQUIRE(fit.identifiability.correlated.size() == 1);
  CHECK(fit.identifiability.correlated[0].a == 1);
  CHECK(fit.identifiability.correlated[0].b == 2);
  CHECK(fit.identifiability.correlated[0].correlation < -0.95);
  CHECK(fit.parameters[1].weak);
  CHECK(fit.parameters[1].value * fit.parameters[2].value == Approx(1).epsilon(0.1));
}

TEST_CASE("a parameter that the rows say next to nothing of is not fitted to their noise") {
  Evaluator evaluator;
  // Over its whole range it changes a row by at most 0.2 %, far below the noise of 5 %.
  std::vector<config::Parameter> parameters = kParameters;
  const auto at = [](const Point& p) {
    GpuSpec gpu = gpu_at(p);
    gpu.launch.graph_launch_us *= 1 + 0.002 * p[3];
    return gpu;
  };
  const CalibrationFit fit = calibrate(measured(0.05), parameters, at, options_with(evaluator));
  CHECK_FALSE(fit.parameters[3].unconstrained);
  CHECK(fit.parameters[3].weak);
  CHECK(std::abs(fit.parameters[3].value - 0.5) < 0.05);
  CHECK(fit.parameters[0].value == Approx(kTruth[0]).epsilon(0.05));
}

TEST_CASE("each kernel and value is simulated once, and a Jacobian is one batch") {
  Evaluator evaluator;
  Measurements rows = measured();
  rows.rows.push_back(rows.rows.front());  // the same kernel again
  CalibrateOptions options = options_with(evaluator);
  options.fit.max_iterations = 0;
  const CalibrationFit nothing = calibrate(rows, kParameters, gpu_at, options);
  CHECK(evaluator.kernels == 48);
  CHECK(evaluator.batches == 1);
  CHECK(nothing.simulated == 48);
  CHECK(mape(nothing.held_out) == mape(nothing.before));
  CHECK(nothing.parameters[0].value == 1.0);

  Evaluator counting;
  options = options_with(counting);
  options.fit.max_iterations = 1;
  options.folds = 2;
  (void)calibrate(rows, kParameters, gpu_at, options);
  // Before, first Jacobian of all four; a step and its Jacobian by the three that matter; the folds' steps;
  // after.
  CHECK(counting.kernels <= 48 * (1 + 4 + 1 + 3) + 2 * 4 * 48 * 4 + 48);
}

TEST_CASE("what cannot be simulated is left out or fails, and too little is refused") {
  Evaluator evaluator;
  Measurements rows = measured();
  rows.rows.push_back(gemm(13, 64, 64));
  rows.rows.back().measured_us = 3;
  const CalibrationFit fit = calibrate(rows, kParameters, gpu_at, options_with(evaluator));
  REQUIRE(fit.held_out.skipped.size() == 1);
  CHECK(fit.held_out.skipped[0].reason == "13 is no size");
  CHECK(fit.held_out.rows.size() == 48);

  rows.rows.push_back(gemm(14, 64, 64));
  rows.rows.back().measured_us = 3;
  const CalibrationFit without = calibrate(rows, kParameters, gpu_at, options_with(evaluator));
  REQUIRE(without.before.failed.size() == 1);
  CHECK(without.before.failed[0].reason == "it broke");
  CHECK(without.fitted.rows.size() == 48);
  rows = measured();
  rows.rows.resize(4);
  CHECK_THROWS_AS(calibrate(rows, kParameters, gpu_at, options_with(evaluator)), std::invalid_argument);
  const std::vector<config::Parameter> one{kParameters[0]};
  const auto at = [](const Point& p) { return gpu_at({p[0], 410, 4100, 0.5}); };
  CHECK_THROWS_AS(calibrate(rows, one, at, options_with(evaluator)), std::invalid_argument);  // 5 folds
}

TEST_CASE("held-out rows do not touch the fit that predicts them") {
  // One row is absurd: it may change every fit but the one that it is held out of.
  Measurements sane = measured(0.05), absurd = sane;
  absurd.rows[5].measured_us *= 1.3;
  Evaluator evaluator;
  CalibrateOptions options = options_with(evaluator);
  options.fold_iterations = 30;
  options.fit.tolerance = 1e-9;
  const CalibrationFit a = calibrate(sane, kParameters, gpu_at, options);
  const CalibrationFit b = calibrate(absurd, kParameters, gpu_at, options);
  REQUIRE(a.fold_of_row == b.fold_of_row);
  CHECK(a.fitted.rows[5].predicted_us != b.fitted.rows[5].predicted_us);
  CHECK(a.held_out.rows[5].predicted_us == Approx(b.held_out.rows[5].predicted_us).epsilon(2e-3));
}

TEST_CASE("folds are disjoint, even per kind, whole per kernel, and the seed's") {
  std::vector<std::string> kinds, keys;
  for (int i = 0; i < 23; ++i) {
    kinds.push_back(i % 3 == 0 ? "a" : "b");
    keys.push_back(std::to_string(i));
  }
  kinds.push_back("a");
  keys.push_back("0");
  const std::vector<int> folds = folds_of(kinds, keys, 5, 1);
  std::map<std::pair<std::string, int>, int> count;
  for (std::size_t i = 0; i < 23; ++i) {
    REQUIRE(folds[i] >= 0);
    REQUIRE(folds[i] < 5);
    ++count[{kinds[i], folds[i]}];
  }
  CHECK(count.size() == 10);  // every kind in every fold
  for (const auto& [at, n] : count) CHECK((at.first == "a" ? n >= 1 && n <= 2 : n == 3));
  CHECK(folds[23] == folds[0]);
  CHECK(folds == folds_of(kinds, keys, 5, 1));
  CHECK(folds != folds_of(kinds, keys, 5, 2));
  CHECK_THROWS_AS(folds_of({"a"}, {"0"}, 2, 0), std::invalid_argument);
}

TEST_CASE("a record holds the residuals, the range and the traits of its rows") {
  Comparison c;
  for (const std::int64_t m : {16, 64, 256}) {
    Measurement row = gemm(m, 128, 64);
    row.measured_us = static_cast<double>(m);
    c.rows.push_back({row, static_cast<double>(m) * 1.1, {}});
  }
  const config::FidelityCalibration record = record_of(c);
  REQUIRE(record.kinds.size() == 1);
  const config::KindCalibration& kind = record.kinds.at("gemm");
  CHECK(kind.held_out.count == 3);
  CHECK(kind.held_out.log_mean == Approx(std::log(1.1)));
  CHECK(kind.held_out.log_sd == Approx(0).margin(1e-12));
  CHECK(kind.held_out.bias_percent == Approx(10));
  CHECK(kind.flops.least == 2.0 * 16 * 128 * 64);
  CHECK(kind.flops.most == 2.0 * 256 * 128 * 64);
  CHECK(kind.latency_us.most == 256);
  CHECK(kind.traits.at("dtype") == std::vector<std::string>{"bf16"});
  REQUIRE(record.files.size() == 1);
  CHECK(record.files[0] == std::pair<std::string, std::size_t>{"f.csv", 3});
  Comparison other = c;
  other.rows[0].row.measured_us = 17;
  CHECK(rows_hash(c) != rows_hash(other));
}

}  // namespace
}  // namespace tessera::validate
