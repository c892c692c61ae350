#pragma once
// What the model says of measured rows at many values of its parameters, each kernel and value once.

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "sim/core/hardware.hpp"
#include "sim/system/kernel_profile.hpp"
#include "validate/measurement.hpp"

namespace tessera::validate {

/// The values of all parameters, unscaled.
using Point = std::vector<double>;
using GpuAt = std::function<GpuSpec(const Point& point)>;

/// Runs a batch of kernels, in any order; outcomes parallel to the jobs. `what` says what for. The cycle
/// model runs them in worker processes; a closed form may simply loop.
using EvaluateJobs = std::function<std::vector<sim::KernelOutcome>(const std::vector<sim::KernelJob>& jobs,
                                                                   const std::string& what)>;

class Predictions {
 public:
  /// `rows` must outlive it.
  Predictions(const std::vector<Measurement>& rows, GpuAt gpu_at, EvaluateJobs evaluate);

  struct Wanted {
    Point point;
    std::vector<std::size_t> rows;
  };
  /// Simulates what is not known yet, in one batch.
  void prepare(const std::vector<Wanted>& wanted, const std::string& what);

  /// The predicted time of a prepared row. std::runtime_error with file and line if it could not be
  /// simulated.
  double us(const Point& point, std::size_t row) const;
  /// Why a prepared row could not be simulated; both texts empty if it could.
  struct Trouble {
    std::string invalid;  ///< a shape or dtype that no kernel supports
    std::string failure;  ///< anything else
  };
  Trouble trouble(const Point& point, std::size_t row) const;
  /// Equal for rows that are one kernel.
  std::string key(const Point& point, std::size_t row) const;
  /// Takes over what `other` knows at a point. Row i here is its row rows[i].
  void adopt(const Predictions& other, const Point& point, const std::vector<std::size_t>& rows);

  std::size_t simulated() const { return simulated_; }
  std::uint64_t events() const { return events_; }

 private:
  struct Times {
    double latency_us = -1, execution_us = -1;  // below 0: not known
  };
  struct At {
    GpuSpec gpu;
    std::vector<std::size_t> first;  // by row: the first row that is the same kernel
    std::vector<Times> times;        // by row, of first ones only
    std::map<std::size_t, Trouble> troubles;
  };
  At& at(const Point& point);

  const std::vector<Measurement>& rows_;
  const GpuAt gpu_at_;
  const EvaluateJobs evaluate_;
  std::map<Point, At> at_;
  std::size_t simulated_ = 0;
  std::uint64_t events_ = 0;
};

}  // namespace tessera::validate
