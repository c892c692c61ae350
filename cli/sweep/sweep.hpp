#pragma once
// A sweep file: what is varied, how, and what is asked of it. The format is in docs/sweeps.md.
//
//   name: attn_nodes
//   experiment: cascade_llama3_8b          or  kernel: {kind: gemm, hardware: h200_sxm, n: 4096, k: 4096}
//   fidelity: cost                         or cycle, or funnel
//   set: {workload.decode_steps: 0}        the same in every point
//   axes:
//     sharding.beta: [1, 2, 4]                            a list
//     workload.prefill_tokens: {range: [8K, 64K], step: 8K}          or count: 8
//     hardware.comp.l2.bytes: {log_range: [32M, 256M], count: 4}
//   zip:                                   keys that move together, one list each
//     - {hardware.comp.hbm.pin_gbps: [5.2, 6.4], hardware.comp.hbm.tck_ns: [0.769, 0.625]}
//   where: [sharding.beta <= sharding.alpha]
//   design: {method: grid}                 or random, latin_hypercube {points, seed}; or search {algorithm,
//                                          evaluations, weights, seed}
//   objectives: {latency_us: min, tokens_per_usd: max}
//   constraints: [memory_fits == 1, ttft_us < 1e6]

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/output.hpp"
#include "cli/sweep/expression.hpp"
#include "configs/reader/document.hpp"

namespace tessera::cli {

enum class SweepFidelity { cost, cycle, funnel };
enum class DesignMethod { grid, random, latin_hypercube, search, around };

/// One or more keys that move together: over levels, or over a stretch of numbers.
struct Dimension {
  std::vector<std::string> keys;
  std::vector<config::Value> at;                 ///< where each key stands in the file
  std::vector<std::vector<std::string>> levels;  ///< levels[i][k]: of key k, as YAML; empty for a stretch
  double low = 0, high = 0;                      ///< of a stretch
  bool logarithmic = false, integer = false;

  /// The values at u in [0, 1).
  std::vector<std::string> values_at(double u) const;
};

struct Design {
  DesignMethod method = DesignMethod::grid;
  std::int64_t points = 0;  ///< random, latin_hypercube
  std::uint64_t seed = 1;
  std::string algorithm = "direct";  ///< search: see search.hpp
  std::int64_t evaluations = 0;      ///< of each search
  std::int64_t weights = 1;          ///< searches, each with other weights of the objectives
};

struct Objective {
  std::string metric;
  bool most = false;  ///< to be made large, else small
};

struct Sweep {
  std::filesystem::path file;
  std::string name, description;
  std::filesystem::path experiment;  ///< empty if a kernel is swept
  std::string kernel;                ///< its kind
  SweepFidelity fidelity = SweepFidelity::cost;
  std::uint64_t seed = 1;                                ///< of what experiments draw
  std::vector<std::pair<std::string, std::string>> set;  ///< keys and values that every point has
  std::vector<Dimension> dimensions;
  std::vector<Expression> where, constraints;
  std::vector<Objective> objectives;
  Design design;
  std::string hash;  ///< of what decides the points: equal for sweeps that may be resumed and merged
};

/// One point: its number, where it lies, and what it sets.
struct Point {
  std::int64_t id = 0;
  std::vector<double> place;  ///< per dimension: the level's index, or u of a stretch or a random design
  std::vector<std::pair<std::string, std::string>> axes;
};

/// Throws config::InputError at file, line and key. Keys of axes are only checked by require_axes
/// (evaluate.hpp).
Sweep read_sweep(const std::filesystem::path& file);

/// Every point, those that the conditions exclude left out; numbered in order. None of a search: its points
/// follow from one another.
std::vector<Point> points_of(const Sweep& sweep);

/// The point at `place`, each in [0, 1).
Point point_at(const Sweep& sweep, std::int64_t id, const std::vector<double>& place);
/// Whether its conditions hold.
bool allowed(const Sweep& sweep, const Point& point);

}  // namespace tessera::cli
