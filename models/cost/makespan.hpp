#pragma once
// List scheduling: pieces of work go, in order, each to the machine that is free first.

#include <cstdint>
#include <vector>

namespace tessera::cost {

struct Batch {
  std::uint64_t count = 0;
  double duration = 0;
};

/// Keeps its buffers from call to call.
class ListSchedule {
 public:
  /// When the last of `machines` ends, if the batches come `rounds` times over, one after another. Exact for
  /// the last 4 x machines pieces; what comes before them is taken to load all machines evenly.
  double makespan(const std::vector<Batch>& batches, std::uint64_t rounds, std::uint64_t machines);

 private:
  struct Level {
    double load;
    std::uint64_t machines;
  };
  void assign(std::uint64_t count, double duration, std::uint64_t machines);

  std::vector<Level> levels_;  // by load, the greatest first
  std::vector<Batch> tail_;
};

}  // namespace tessera::cost
