#pragma once
// When to look at a kernel's loops in detail and when to pass over their trips: systematic sampling, as in
// SMARTS (Wunderlich et al., ISCA 2003). docs/skipping.md has the equations.
//
// Time is cut into windows, those of the power governor. The first windows of a kernel settle clock and
// caches; then follows a group of measured windows, then a stretch in which trips are passed over, at the
// mean trip time of the groups so far, and so on. Sampling starts again when the first SM runs out of work,
// and the end of the kernel is always simulated.

#include <cstdint>
#include <limits>
#include <optional>

#include "sim/gpu/sampling/trip_groups.hpp"
#include "sim/gpu/sampling/trip_window.hpp"

namespace tessera::sim {

class TripSampling {
 public:
  struct Pass {
    std::uint32_t windows = 0;  ///< how long trips are passed over
    Time each;                  ///< what a trip takes
  };

  /// A kernel starts. `short_windows`: the clock need not be found any more, and a group goes on until its
  /// mean is sure.
  void start(const TripCount& count, double window_us, bool short_windows = false);
  /// A window has ended, or in a stretch of passed trips the next `windows`. Whether to pass over trips from
  /// now on, for `most_windows` at most.
  std::optional<Pass> add(const TripWindow& window,
                          double most_windows = std::numeric_limits<double>::infinity(),
                          std::uint32_t windows = 1);
  /// No window has been measured yet, and one like this can be cut into `parts` that each see many trips.
  bool divisible(const TripWindow& window, double parts) const;
  /// No window has been measured yet.
  bool settling() const { return state_ == State::settle && groups_.empty() && passed_ == 0; }
  /// From now on windows are this long, and short ones or not as in start(). Only while settling().
  void resize(double window_us, bool short_windows);
  /// Whether the last window has left the clock as it was.
  void set_steady(bool steady) { steady_clock_ = steady; }
  /// From now on trips take another time than before. Not while holding().
  void start_anew();

  /// The window that goes on is a measured one.
  bool measuring() const { return state_ == State::measure; }
  /// Trips are passed over in the window that goes on, or it is the first one after.
  bool holding() const { return state_ == State::pass || (state_ == State::settle && resumed_); }
  /// Windows of a stretch of passed trips that are still to come: they may be added at once.
  std::uint32_t windows_to_pass() const { return state_ == State::pass ? left_ : 0; }
  /// The kernel has ended `windows` into a stretch of passed trips.
  void end_pass(std::uint32_t windows);
  /// Windows in which trips were passed over.
  std::uint32_t passed_windows() const { return passed_; }
  /// Half of the 95 % confidence interval of the kernel's length, in windows. Call when the kernel has ended.
  double half_width_windows() const;

 private:
  enum class State : std::uint8_t { off, settle, measure, pass };

  void settle(std::uint32_t windows, bool resumed);
  void begin_group();
  /// Adds a window to the group that is being measured; whether the group is complete.
  bool measure(const TripWindow& window);
  /// Loops and pieces of work are long or many enough for what is passed over to be told from the rest.
  bool worth_passing() const;
  std::optional<Pass> begin_pass(double most_windows);
  Pass pass(double windows);
  /// Trips last several windows, so that windows in which none ends count too.
  bool long_trips() const { return groups_.last().mean_us() > window_us_; }

  // Of the kernel.
  TripCount count_;
  double even_ = 0;
  std::uint32_t most_passes_ = 1;
  // Of its windows.
  double window_us_ = 0;
  bool short_windows_ = false;
  bool steady_clock_ = false;

  State state_ = State::off;
  std::uint32_t left_ = 0;        // windows of the current state
  bool resumed_ = false;          // settling after trips were passed over
  std::uint32_t warm_ = 1;        // windows after passed trips that are not measured
  std::uint32_t passes_ = 0;      // still to come before the section ends; 0: not decided
  double cut_to_ = 0;             // windows of the last stretch, where it had to end early
  bool uneven_ = false;           // the first SM has run out of work
  double made_ = 0;               // trips
  double items_ = 0, alike_ = 0;  // pieces of work begun before anything was passed over, and their trips
  std::uint32_t passed_ = 0;      // windows
  TripGroups groups_;
};

}  // namespace tessera::sim
