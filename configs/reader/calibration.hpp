#pragma once
// The `calibration:` block of a hardware file: what its fitted numbers were fitted to, and how far the
// simulator was off on rows that it was not fitted to. Predictions take their error bars from here.
//
//   calibration: uncalibrated
//   calibration:
//     base: h200_sxm                          the hardware that was calibrated
//     values_hash: "90d1..."                  of the file's values: one changed since, and this says nothing
//     cycle:                                  by fidelity: cycle, cost
//       files: [{name: "gemm.csv", rows: 30}]
//       rows_hash: "0f3a..."                  of the rows that were drawn from them
//       sample: 30                            rows per kind at most; 0: all
//       seed: 1
//       max_ms: 0.3                           rows that took longer were left out; 0: none
//       folds: 5
//       kinds:
//         gemm:
//           held_out: {count: 30, mape_percent: 6.1, ...}
//           flops: [1e6, 2e12]                the calibrated range
//           bytes: [1e4, 1e9]
//           latency_us: [2.5, 300]
//           traits: {dtype: [bf16], launch: [graph]}
//       groups: {gemm_large: {count: 12, ...}}

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "configs/reader/document.hpp"
#include "configs/reader/parameters.hpp"

namespace tessera::config {

/// Errors of rows that were held out of the fit that predicted them. Percentages are of
/// (simulated - measured) / measured; log_mean and log_sd of ln(simulated / measured).
struct HeldOut {
  std::size_t count = 0;
  double mape_percent = 0, median_ape_percent = 0, p90_ape_percent = 0, max_ape_percent = 0, bias_percent = 0;
  double log_mean = 0, log_sd = 0;
};

/// From the least to the most, both included.
struct Range {
  double least = 0, most = 0;
  bool holds(double x) const { return least <= x && x <= most; }
};

struct KindCalibration {
  HeldOut held_out;
  Range flops, bytes, latency_us;  ///< of the rows; bytes: of all operands; latency: as measured
  std::map<std::string, std::vector<std::string>> traits;  ///< what else the rows were: {"dtype", {"bf16"}}
};

/// At one fidelity.
struct FidelityCalibration {
  std::vector<std::pair<std::string, std::size_t>> files;  ///< names without folders, and their rows
  std::string rows_hash;
  std::size_t sample = 0;
  std::uint64_t seed = 0;
  double max_ms = 0;
  int folds = 0;
  std::map<std::string, KindCalibration> kinds;
  std::map<std::string, HeldOut> groups;

  std::size_t rows() const;
};

struct Calibration {
  std::string base;
  bool stale = false;  ///< the hardware's values changed since (in the file or by --set)
  std::map<std::string, FidelityCalibration> fidelities;  ///< by "cycle", "cost"; none: uncalibrated
};

/// InputError for a block that is malformed. `calibration: uncalibrated` gives an empty one.
Calibration read_calibration(const Document& document);

/// "uncalibrated", "calibrated (cycle: 90 rows)", "uncalibrated (changed since it was calibrated)".
std::string summary_of(const Calibration& calibration);

/// The text of a hardware file with new values: `parameters` become its fitted numbers, with their bounds and
/// standard errors, `name` its name, `calibration` its calibration. All else stays, comments too. What is
/// returned was read back and found equal. InputError if a number is not written on one line as {value: ...,
/// source: ...}.
std::string with_calibration(const std::string& text, const std::filesystem::path& file,
                             const std::string& name, const std::vector<Parameter>& parameters,
                             const Calibration& calibration);

}  // namespace tessera::config
