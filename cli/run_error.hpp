#pragma once
// How far a run's latency may be off, from the calibrations of its GPUs.

#include <string>
#include <vector>

#include "cli/experiment.hpp"
#include "cli/output.hpp"
#include "models/dataflow/task_graph.hpp"
#include "sim/system/machine.hpp"
#include "validate/error_bar.hpp"

namespace tessera::cli {

struct RunError {
  /// What the critical path consists of: kernels of a kind, GPU and standing alike, their launches included;
  /// and the network, which has no calibration. Largest share first.
  struct Part {
    validate::ErrorBar bar;
    std::string gpu;  ///< "" for the network
    double share = 0;
  };
  std::vector<Part> parts;
  validate::RunErrorBar run;
  std::vector<validate::ErrorBar> kernels;  ///< parallel to RunResult::kernels
};

RunError error_of(const Experiment& experiment, const models::TaskGraph& graph, const sim::RunResult& run,
                  const std::string& fidelity);

/// "+- 6.2 % (...)" or why there is none.
std::string text_of(const RunError& error);
Json error_json(const RunError& error, double latency_us);
/// The `error_bar` of one kernel.
Json error_json(const validate::ErrorBar& bar, double latency_us);

}  // namespace tessera::cli
