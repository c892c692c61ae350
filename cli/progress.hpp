#pragma once
// Progress of long work on standard error: a bar with ETA on a terminal, else a plain line now and then.

#include <chrono>
#include <cstddef>
#include <string>

namespace tessera::cli {

class Progress {
 public:
  Progress();
  ~Progress();  ///< clears the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(std::size_t done, std::size_t total, const std::string& what);
  /// The same where pieces differ in length: `share` of the work is done, for the ETA.
  void update(std::size_t done, std::size_t total, const std::string& what, double share);

 private:
  using Clock = std::chrono::steady_clock;
  const bool terminal_;
  const Clock::time_point start_ = Clock::now();
  Clock::time_point shown_;
  bool bar_shown_ = false;
};

}  // namespace tessera::cli
