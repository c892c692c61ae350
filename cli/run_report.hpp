#pragma once
// What `tessera run` says about a finished run: text for people, JSON for programs.

#include <cstdint>
#include <string>

#include "cli/analysis.hpp"
#include "cli/experiment.hpp"
#include "cli/output.hpp"
#include "cli/run_error.hpp"

namespace tessera::cli {

struct RunRecord {
  const Experiment& experiment;
  const models::TaskGraph& graph;
  const sim::RunResult& run;
  Analysis analysis;
  RunError error;
  std::string fidelity;
  std::uint64_t seed = 1;
  bool exact = false;
  double wall_s = 0;
};

/// What the run costs at the GPUs' stated prices: every node is held for the whole run.
struct Cost {
  double usd = 0;
  std::string basis;  ///< how it was computed, or why it is 0
};
Cost cost_of(const RunRecord& record);

std::string run_text(const RunRecord& record);
Json run_json(const RunRecord& record);

}  // namespace tessera::cli
