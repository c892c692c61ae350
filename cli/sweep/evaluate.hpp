#pragma once
// One point of a sweep: from what it sets to a row.

#include <map>
#include <string>
#include <vector>

#include "cli/experiment.hpp"
#include "cli/sweep/row.hpp"
#include "cli/sweep/sweep.hpp"
#include "sim/system/kernel_cost.hpp"

namespace tessera::cli {

/// Remembers, between points, files and kernels that it has met; rows do not depend on which those were.
class Evaluator {
 public:
  /// `sweep` must outlive it.
  explicit Evaluator(const Sweep& sweep) : sweep_{sweep} {}

  /// Never throws for what is wrong with a point: that becomes its row. At cycle fidelity the point is
  /// simulated in a process of its own.
  Row evaluate(const Point& point, bool cycle);

  /// Throws whatever reading the point's configuration throws, without running it.
  void read(const Point& point);

 private:
  std::vector<std::string> overrides(const Point& point) const;
  void measure(const Point& point, bool cycle, Row& row);
  void measure_run(const Point& point, bool cycle, Row& row);
  void measure_kernel(const Point& point, bool cycle, Row& row);
  void apply_constraints(const Point& point, Row& row) const;

  const models::TaskGraph& graph_of(const Experiment& e);

  const Sweep& sweep_;
  ConfigMemory configs_;
  sim::CostMemory costs_;
  sim::PlanMemory plans_;
  models::TaskGraph graph_;  // of the point before: neighbours on a grid mostly differ in hardware
  std::string graph_key_;
};

/// Throws config::InputError at the axis, file and line, if a key of one is no key of the configuration or a
/// value is none that it can have, whatever the other axes are; and if no point has a configuration that can
/// be read (a kernel that lacks an argument).
void require_axes(const Sweep& sweep, const std::vector<Point>& points);

}  // namespace tessera::cli
