#pragma once
// How busy the data bus of each pseudo-channel was over time, for timelines.

#include <cstddef>
#include <utility>
#include <vector>

#include "sim/core/time.hpp"

namespace tessera::sim {

class ChannelRecorder {
 public:
  /// Of each channel at most so many stretches; two in a row become one whenever there are more.
  explicit ChannelRecorder(std::size_t most_stretches = 256) : most_{most_stretches} {}

  struct Stretch {
    Time start, end;
    double share = 0;  ///< of it, the time that the bus carried data
  };
  /// What another process recorded.
  explicit ChannelRecorder(std::vector<std::vector<Stretch>> channels)
      : most_{channels.empty() ? 0 : channels.front().size()}, channels_{std::move(channels)} {}

  const std::vector<std::vector<Stretch>>& channels() const { return channels_; }

  // For the HBM.
  bool wants(Time now) const { return now >= next_; }
  /// `busy`: the time, of each channel, so far.
  void add(Time now, const std::vector<Time>& busy);

 private:
  std::size_t most_;
  Time width_ = Time::nanoseconds(500), next_ = width_, last_;
  std::vector<Time> before_;
  std::vector<std::vector<Stretch>> channels_;
};

}  // namespace tessera::sim
