#pragma once
// configs/suites/*.yaml: what to measure. `tessera validate --published` runs the same file of
// microbenchmarks on the simulator.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "validate/measure/workload.hpp"

namespace tessera::measure {

/// How long to measure.
struct TimingRules {
  double warm_up_ms = 100;  ///< of replays before the first sample
  double sample_ms = 2;     ///< a sample holds as many calls as take this long, at least one
  int samples = 30;
  bool stages = true;  ///< each kernel of a call of several by itself, too
};

struct Case {
  std::string run;  ///< its name in the suite
  Request request;  ///< of a microbenchmark: kind "microbench", name=...
};

struct Suite {
  std::string name, description;
  std::string hash;  ///< of the file's text
  TimingRules timing;
  std::vector<Case> cases;  ///< lists expanded, in the file's order
};

/// config::InputError for a bad file, a kind that cannot be measured, bad keys.
Suite read_suite(const std::filesystem::path& file);
Suite parse_suite(const std::string& text, const std::filesystem::path& name);

/// 16 hex digits (FNV-1a).
std::string hash_of(const std::string& text);

}  // namespace tessera::measure
