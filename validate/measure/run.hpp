#pragma once
// Measures a suite: checks every kernel against float64, times it, and appends a row for each case.

#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "validate/measure/choices.hpp"
#include "validate/measure/device.hpp"
#include "validate/measure/journal.hpp"
#include "validate/measure/kinds.hpp"
#include "validate/measure/suite.hpp"

namespace tessera::measure {

struct RunOptions {
  std::filesystem::path out;
  std::string revision;       ///< of the source, "" if not known
  std::string only;           ///< only cases whose text holds this
  double case_limit_s = 120;  ///< a case that takes longer is given up, and said to be
  std::uint64_t seed = 1;
  bool check_only = false;  ///< nothing is timed, no row is written
  /// In the worker process, of each case whose kernels choose, once its check was passed: what it says of
  /// where the choices are is the case's line. May be empty.
  std::function<std::string(const Case&, const Chosen&)> record = {};
  /// In the worker process; called anew after one was lost.
  std::function<std::unique_ptr<Device>()> open_device;
  std::FILE* report = stdout;
};

struct RunSummary {
  int measured = 0, skipped = 0, failed = 0, already_there = 0;
};

/// Every case runs in a worker process, so that a kernel that crashes, hangs or leaves the GPU's context
/// broken costs its own row only. std::runtime_error if no device can be opened.
RunSummary run_suite(const Suite& suite, const RunOptions& options);

/// The row of one case; also for skipped and failed ones. `device` may be lost afterwards.
Json measure_case(Device& device, const Suite& suite, const Case& which, const RunOptions& options);

/// What running the suite should take, in seconds, at the given rates: all calls and some host time per case.
double estimated_s(const Suite& suite, const Target& target, double flops_per_s, double bytes_per_s);

/// Equal for rows that stand for the same measurement.
std::string key_of(const Suite& suite, const Case& which, const DeviceProperties& device);

}  // namespace tessera::measure
