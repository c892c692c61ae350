#pragma once
// Measurements held against the simulator.

#include <functional>
#include <string>
#include <vector>

#include "sim/core/hardware.hpp"
#include "sim/system/kernel_profile.hpp"
#include "validate/measurement.hpp"

namespace tessera::validate {

/// A measurement and what the simulator says of it.
struct Compared {
  Measurement row;
  double predicted_us = 0;
  sim::KernelResult result;  ///< without statistics and activity

  /// (predicted - measured) / measured, in percent.
  double error_percent() const { return 100 * (predicted_us - row.measured_us) / row.measured_us; }
};

struct Comparison {
  std::vector<Compared> rows;    ///< in the order of the measurements
  std::vector<Skipped> skipped;  ///< those not read, then those that no kernel supports
  struct Failed {
    Measurement row;
    std::string reason;
  };
  std::vector<Failed> failed;  ///< the simulator broke: a defect
  std::size_t simulated = 0;   ///< distinct kernels
  std::uint64_t events = 0;
};

struct CompareOptions {
  int processes = 0;  ///< 0: one per core
  bool cost = false;  ///< by the cost model, in this process
  std::function<void(const sim::WorkDone&)> progress;
  sim::Simulate simulate;  ///< the cycle model if empty
};

/// The cycle model, without statistics and activity: only what a comparison keeps crosses the process
/// boundary.
sim::KernelResult simulate_cycles(const sim::KernelJob& job);
/// The same with them: for one row that is looked at.
sim::KernelResult simulate_with_statistics(const sim::KernelJob& job);
/// The kernel that stands for a row; equal keys cost the same. `gpu` must outlive it.
sim::KernelJob job_of(const Measurement& row, const GpuSpec& gpu);
/// What is held against a row: the kernel's latency, or its execution if the row was timed on the device.
double predicted_us(const Measurement& row, const sim::KernelResult& result, const GpuSpec& gpu);

/// Simulates every row in worker processes, each distinct kernel once.
Comparison compare(Measurements measurements, const GpuSpec& gpu, const CompareOptions& options);

}  // namespace tessera::validate
