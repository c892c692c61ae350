#pragma once
// When a resource was busy, for timelines: a bounded number of equal windows from time 0. Runs last from
// microseconds to hours, so the windows start short, and each time they run out, pairs of them become one.

#include <cstddef>
#include <vector>

#include "sim/core/time.hpp"

namespace tessera::sim {

class BusyHistory {
 public:
  static constexpr std::size_t kMostWindows = 8192;

  /// The resource is busy over [begin, end). Stretches must not overlap.
  void add(Time begin, Time end) {
    while (end > width_ * static_cast<std::int64_t>(kMostWindows)) widen();
    for (Time from = begin; from < end;) {
      const auto window = static_cast<std::size_t>(from.fs / width_.fs);
      const Time to = min(end, width_ * static_cast<std::int64_t>(window + 1));
      if (busy_.size() <= window) busy_.resize(window + 1);
      busy_[window] += to - from;
      from = to;
    }
  }

  Time width() const { return width_; }
  /// Time in service per window, up to the last busy one.
  const std::vector<Time>& busy() const { return busy_; }

 private:
  void widen() {
    width_ += width_;
    for (std::size_t i = 0; i < busy_.size(); i += 2)
      busy_[i / 2] = busy_[i] + (i + 1 < busy_.size() ? busy_[i + 1] : Time{});
    busy_.resize((busy_.size() + 1) / 2);
  }

  Time width_ = Time::microseconds(1);
  std::vector<Time> busy_;
};

}  // namespace tessera::sim
