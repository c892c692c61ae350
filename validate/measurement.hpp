#pragma once
// Measured kernels, as data: what was run, how it was timed, and where the row stands.

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "models/operators/operator.hpp"

namespace tessera::validate {

/// What the clock of a measurement was around.
enum class Timing {
  replay,  ///< repeated launches, back to back: the launch gap is in it
  device,  ///< the kernel's own time on the GPU, as a profiler's trace has it
};

/// How the kernel was run, over and over.
struct Conditions {
  Timing timing = Timing::replay;
  bool graph = true;  ///< launched inside a CUDA graph, else from the host
  bool random_data = true;
  /// Bytes of all the weights that were used in turn, this kernel's own included; 0: only its own. A loop
  /// over many copies, or over a layer's matrices, keeps the weights out of the L2.
  std::int64_t weights_in_turn = 0;
  /// Replays since the GPU was idle, before those that were timed and of those; none timed: without end.
  std::uint32_t replays_before = 0, replays_timed = 0;
  /// Calls in a replay, each with other inputs; beside this, one for each copy of the weights.
  std::uint32_t calls_in_replay = 1;
  /// The row itself says which operands lie in the L2.
  bool explicit_l2 = false;
  bool warm = true;  ///< if explicit_l2: all of them, or none
};

/// One kernel of a call of several, timed by itself.
struct MeasuredStage {
  std::string name;
  double us = 0;
};

struct Measurement {
  std::filesystem::path file;
  int line = 0;
  std::string kind;                                            ///< as `tessera kernel` names it
  std::vector<std::pair<std::string, std::string>> arguments;  ///< the shape, as `tessera kernel` takes it
  models::Operator op;
  Conditions conditions;
  double measured_us = 0;
  std::vector<MeasuredStage> stages;  ///< empty: not told
};

/// Rows that cannot be held against the simulator.
struct Skipped {
  std::filesystem::path file;
  std::string kind;
  std::string reason;
  std::size_t count = 0;
};

struct Measurements {
  std::vector<Measurement> rows;
  std::vector<Skipped> skipped;

  /// Counts one more row of `kind` in `file` as skipped for `reason`.
  void skip(const std::filesystem::path& file, const std::string& kind, const std::string& reason);
};

/// "m=512 n=512 k=64"
std::string shape_text(const Measurement& row);

}  // namespace tessera::validate
