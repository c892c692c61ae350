#pragma once
// Groups of measured windows: the mean trip time that is charged for passed trips, and the confidence
// interval that comes of how much windows and groups differ. docs/skipping.md has the equations.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sim/gpu/sampling/trip_window.hpp"

namespace tessera::sim {

/// Measured windows that follow one another.
struct TripGroup {
  double sum = 0, sum_of_squares = 0;  ///< of the windows' mean trip times, in us
  std::uint32_t windows = 0;           ///< that saw trips end
  std::uint32_t lasted = 0;            ///< all of them
  double made = 0;                     ///< trips, in all of them
  std::uint32_t passed = 0;            ///< windows of passed trips before the next group
  std::uint32_t section = 0;           ///< of the kernel: see TripGroups

  void add(const TripWindow& window) {
    const double mean = window.mean_us();
    sum += mean;
    sum_of_squares += mean * mean;
    ++windows;
  }
  double mean_us() const { return sum / windows; }
  /// Standard deviation of the windows, and standard error of their mean, over the mean.
  double spread() const;
  double error() const;
};

/// The groups of a kernel. A section of it ends where trips begin to take another time: when the first SM
/// runs out of work, or the mean power reaches the cap. Groups of one section are samples of the same.
class TripGroups {
 public:
  void clear();
  void begin_group() { groups_.push_back(TripGroup{.section = section_}); }
  /// Trips take another time from now on.
  void begin_section();

  bool empty() const { return groups_.empty(); }
  TripGroup& last() { return groups_.back(); }
  const TripGroup& last() const { return groups_.back(); }
  /// What a trip takes in the section that goes on: the mean of its groups, since loops may run in more than
  /// one way (warpgroups in step or not), of which each group is a sample.
  double mean_us() const;
  /// Half of the 95 % confidence interval, in windows, of the time that passed trips take: by how much
  /// windows of a group differ, and groups of a section.
  double half_width_windows() const;

 private:
  std::vector<TripGroup> groups_;
  std::size_t first_ = 0;      // of the section that goes on
  std::uint32_t section_ = 0;  // that goes on
};

}  // namespace tessera::sim
