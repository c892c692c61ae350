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

/// What the run costs: every node is held for the whole run, at its stated rent or at what owning it costs
/// (with energy, then).
struct Cost {
  double usd = 0;     ///< 0: not known
  std::string basis;  ///< how it was computed, or why it is 0
};
Cost cost_of(const Experiment& experiment, const models::TaskGraph& graph, const sim::RunResult& run);

/// What a run of so many tokens gives for its time, energy and money; 0 where those are not known.
struct Throughput {
  double tokens_per_s = 0, tokens_per_j = 0, tokens_per_usd = 0;
};
Throughput throughput_of(double tokens, const sim::RunResult& run, const Cost& cost);
/// Prompt and decoded tokens of the whole batch.
double tokens_of(const Experiment& experiment);

std::string run_text(const RunRecord& record);
Json run_json(const RunRecord& record);

}  // namespace tessera::cli
