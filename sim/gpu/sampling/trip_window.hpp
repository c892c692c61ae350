#pragma once
// What the sampling of a kernel goes by: the kernel's trips, and what happened to them in a window.

#include <cstdint>

#include "sim/core/time.hpp"

namespace tessera::sim {

/// What happened to a kernel's trips in one window.
struct TripWindow {
  std::uint64_t timed = 0;  ///< trips whose begin and end were seen
  Time time;                ///< that they took together
  double made = 0;          ///< trips made, passed ones included
  std::uint64_t items = 0;  ///< pieces of work begun, passed ones not included
  std::uint64_t alike = 0;  ///< trips that these have

  TripWindow& operator+=(const TripWindow& o) {
    timed += o.timed;
    time += o.time;
    made += o.made;
    items += o.items;
    alike += o.alike;
    return *this;
  }
  double mean_us() const { return time.us() / static_cast<double>(timed); }
};

/// A kernel's trips.
struct TripCount {
  double trips = 0;         ///< in all; none: nothing to sample
  double even = 0;          ///< of them, before the first SM runs out of work
  double loops = 1;         ///< that go on at a time
  bool ends_alike = false;  ///< the end, when SMs run out of work, hardly counts
  double share = 1;         ///< of the run's time that the kernel takes, roughly
  Time fills;               ///< how long caches take to fill
  Time before;  ///< what earlier kernels of the same run took: a share of the sum is what may be wrong
};

}  // namespace tessera::sim
