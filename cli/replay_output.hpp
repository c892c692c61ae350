#pragma once
// What `tessera replay` says: text for people, JSON for programs.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/experiment.hpp"
#include "cli/output.hpp"
#include "traces/requests/reader.hpp"
#include "traces/requests/stream.hpp"
#include "traces/serving/report.hpp"
#include "traces/steps/step_table.hpp"

namespace tessera::cli {

struct ReplayRecord {
  const Experiment& experiment;
  std::string trace, format, fidelity;
  traces::StreamOptions stream;
  traces::Objective objective;
  traces::ServingReport report;
  traces::InstanceMemory memory;
  traces::Skipped skipped;
  std::vector<std::string> nodes;            ///< of an instance
  std::vector<std::vector<double>> busy_ns;  ///< by instance and node
  std::size_t timed_steps = 0, kernels = 0;  ///< of the tables
  traces::StepTable::Error interpolation;
  std::optional<traces::StepTable::Funnel> funnel;
  double wall_s = 0;
};

/// Nothing in it depends on how long the replay took.
Json replay_json(const ReplayRecord& record);
std::string replay_text(const ReplayRecord& record);

/// The header and a line of the file of requests (--requests).
std::string request_header();
std::string request_line(const traces::RequestRecord& request);

}  // namespace tessera::cli
