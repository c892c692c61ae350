#pragma once
// Progress of long work on standard error: a bar with ETA on a terminal, else a plain line now and then.

#include <chrono>

#include "sim/system/machine.hpp"

namespace tessera::cli {

class Progress {
 public:
  using Clock = std::chrono::steady_clock;

  /// Work shorter than `quiet` shows nothing.
  explicit Progress(Clock::duration quiet = std::chrono::seconds{2});
  ~Progress();  ///< clears the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(const sim::WorkDone& work);

 private:
  const bool terminal_;
  const Clock::duration quiet_;
  const Clock::time_point start_ = Clock::now();
  Clock::time_point shown_;
  Clock::time_point advanced_;  // when the share was last seen to change
  double share_ = 0;
  bool bar_shown_ = false;
};

}  // namespace tessera::cli
