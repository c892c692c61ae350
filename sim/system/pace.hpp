#pragma once
// How long work still takes, learnt from how long such work took: simulating a kernel is not in proportion to
// the kernel's length (long ones are sampled, every process has to start).

#include <cstddef>
#include <map>
#include <vector>

namespace tessera::sim {

/// The mean time of work of a size, by octaves of the size; between octaves that have been met a power law.
class Pace {
 public:
  /// A piece of work has ended. Sizes are in any unit, above 0.
  void ended(double size, double seconds);
  bool known() const { return !octaves_.empty(); }
  /// Expected of a piece of this size; 0 as long as nothing has ended.
  double seconds(double size) const;

 private:
  struct Met {
    double seconds = 0;
    int pieces = 0;
    double mean() const { return seconds / pieces; }
  };
  std::map<int, Met> octaves_;
};

/// In which order work of these sizes is done: the longest first, so that all workers end together, but every
/// fourth piece is one from anywhere, so that the pace of all sizes is known early. Deterministic.
std::vector<std::size_t> order_of(const std::vector<double>& sizes);

}  // namespace tessera::sim
