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
#include <vector>

#include "sim/core/time.hpp"

namespace tessera::sim {

/// Of a run's time: an interval of a tenth of what takes less is 0.2 % of the whole.
inline constexpr double kLittleShare = 0.02;

/// What happened to a kernel's trips in one window.
struct TripWindow {
  std::uint64_t timed = 0;  ///< trips whose begin and end were seen
  Time time;                ///< that they took together
  double made = 0;          ///< trips made, passed ones included
  std::uint64_t items = 0;  ///< pieces of work begun, passed ones not included
  std::uint64_t alike = 0;  ///< trips that these have
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

class TripSampling {
 public:
  struct Pass {
    std::uint32_t windows = 0;  ///< how long trips are passed over
    Time each;                  ///< what a trip takes
  };

  /// A kernel starts.
  void start(const TripCount& count, double window_us, bool clock_is_fixed = false);
  /// A window has ended, or in a stretch of passed trips the next `windows`. Whether to pass over trips from
  /// now on, for `most_windows` at most.
  std::optional<Pass> add(const TripWindow& window,
                          double most_windows = std::numeric_limits<double>::infinity(),
                          std::uint32_t windows = 1);
  /// No window has been measured yet, and one like this can be cut into `parts` that each see many trips.
  bool divisible(const TripWindow& window, double parts) const;
  /// No window has been measured yet.
  bool settling() const { return state_ == State::settle && groups_.empty() && passed_ == 0; }
  /// From now on windows are this long. `short_ones`: a group goes on until its mean is sure. Only while
  /// settling().
  void resize(double window_us, bool short_ones);
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
  struct Group {
    double sum = 0, sum_of_squares = 0;  // of the windows' mean trip times, in us
    std::uint32_t windows = 0;           // that saw trips end
    std::uint32_t lasted = 0;            // all of them
    double made = 0;
    std::uint32_t passed = 0;   // windows before the next group
    std::uint32_t stretch = 0;  // groups of one are samples of the same
    double mean() const { return sum / windows; }
    double spread() const;  // standard deviation of the windows over their mean
  };
  void settle(std::uint32_t windows, bool resumed);
  void begin_group();

  State state_ = State::off;
  bool resumed_ = false;  // settling after trips were passed over
  double trips_ = 0, even_ = 0, loops_ = 1, made_ = 0;
  double before_us_ = 0;
  double items_ = 0, alike_ = 0;  // begun before anything was passed over, and their trips
  std::uint32_t left_ = 0;        // windows of the current state
  std::uint32_t passes_ = 0;      // still to come before the next boundary; 0: not decided
  std::size_t first_group_ = 0;   // since the last boundary
  std::uint32_t stretch_ = 0;     // boundaries so far
  bool uneven_ = false;           // the first SM has run out of work
  std::uint32_t passed_ = 0;
  std::uint32_t warm_ = 1;  // windows after passed trips that are not measured
  double window_us_ = 0;
  bool ends_alike_ = false;
  bool steady_clock_ = false;
  bool short_windows_ = false;  // a group goes on until its mean is sure
  std::uint32_t most_passes_ = 1;
  std::vector<Group> groups_;
};

}  // namespace tessera::sim
