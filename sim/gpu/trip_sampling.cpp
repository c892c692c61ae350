#include "sim/gpu/trip_sampling.hpp"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>

namespace tessera::sim {

namespace {

// In windows. The governor needs two or three to find its clock; caches and queues are full sooner.
constexpr std::uint32_t kSettleClock = 3, kSettle = 2;
constexpr std::uint32_t kFirstGroup = 4, kGroup = 3, kLeastInGroup = 2;
// Where the clock is fixed windows are shorter: a group goes on until its mean is this sure.
constexpr std::uint32_t kMostInFirstGroup = 8, kMostInGroup = 4;
constexpr double kSure = 0.003;  // standard error, relative to the mean
// After trips were passed over: L2 and queues fill again, and warpgroups fall into step.
constexpr std::uint32_t kMostWarm = 2;
constexpr double kWarmTrips = 24;
constexpr std::uint32_t kTail = 2;       // simulated before a boundary
constexpr std::uint32_t kLeastPass = 6;  // and as many trips: shorter is not worth a group of its own
constexpr double kLeastOfBrief = 40;     // of what takes little time of a run, and is short itself
constexpr std::uint32_t kMostPasses = 4;
// Where the clock cannot drift and windows hardly differ, two groups show about as much as four.
constexpr double kSteady = 0.01;  // standard error of a group, relative to its mean
constexpr std::uint32_t kMostSteadyPasses = 2;
constexpr std::uint32_t kWindowsPerPass = 12;
// Of a run's time: an interval of a tenth of what takes less is 2 % of the whole.
constexpr double kSomeShare = 0.2;
// What windows do not show (heads and tails of loops, SMs that drift apart), of the passed time: what sampled
// kernels were seen to be off beyond their windows' spread (docs/skipping.md).
constexpr double kNotSampled = 0.005;
// Pieces of work that are passed over leave SMs out of step, which costs about one piece at the end. Where
// loops are short, pieces end together at first and at the end, and a kernel is not sampled unless it and
// those before it take many of them.
constexpr double kShortLoop = 16;
constexpr double kManyPieces = 100, kManyPiecesOfPart = 50;  // of a kernel alone, and behind others
constexpr double kOnePiece = 1.5;
constexpr std::uint64_t kLeastTimed = 16;  // trips that make a window's mean
constexpr double kLeastInPart = 250;       // and that of a part of a window

}  // namespace

void TripSampling::start(const TripCount& count, double window_us, bool clock_is_fixed) {
  window_us_ = window_us;
  steady_clock_ = short_windows_ = clock_is_fixed;
  trips_ = count.trips;
  ends_alike_ = count.ends_alike;
  even_ = ends_alike_ ? count.trips : std::min(count.even, count.trips);
  loops_ = count.loops;
  most_passes_ = count.share < kLittleShare ? 1 : count.share < kSomeShare ? kMostSteadyPasses : kMostPasses;
  before_us_ = count.before.us();
  made_ = items_ = alike_ = 0;
  passes_ = 0;
  uneven_ = false;
  passed_ = 0;
  groups_.clear();
  first_group_ = 0;
  stretch_ = 0;
  state_ = State::off;
  if (trips_ > 0) {
    settle(std::max(short_windows_ ? kSettle : kSettleClock,
                    static_cast<std::uint32_t>(std::ceil(count.fills.us() / window_us))),
           false);
  }
}

double TripSampling::Group::spread() const {
  const double variance = windows < 2 ? 0 : (sum_of_squares - sum * mean()) / (windows - 1);
  return std::sqrt(std::max(0.0, variance)) / mean();
}

void TripSampling::settle(std::uint32_t windows, bool resumed) {
  state_ = State::settle;
  left_ = windows;
  resumed_ = resumed;
}

void TripSampling::begin_group() {
  state_ = State::measure;
  left_ = passes_ == 0 && !short_windows_ ? kFirstGroup : kGroup;
  groups_.push_back(Group{.stretch = stretch_});
}

void TripSampling::start_anew() {
  if (state_ == State::off) return;
  if (!groups_.empty() && groups_.back().windows == 0) groups_.pop_back();
  first_group_ = groups_.size();
  ++stretch_;
  settle(short_windows_ ? kSettle : kSettleClock, false);
}

bool TripSampling::divisible(const TripWindow& window, double parts) const {
  return settling() && static_cast<double>(window.timed) >= std::max(loops_, kLeastInPart * parts);
}

void TripSampling::resize(double window_us, bool short_ones) {
  window_us_ = window_us;
  short_windows_ = short_ones;
}

std::optional<TripSampling::Pass> TripSampling::add(const TripWindow& window, double most_windows,
                                                    std::uint32_t windows) {
  if (state_ == State::off) return {};
  made_ += window.made;
  if (passed_ == 0 && state_ != State::pass) {
    items_ += static_cast<double>(window.items);
    alike_ += static_cast<double>(window.alike);
  }
  if (!uneven_ && made_ >= even_ && state_ != State::pass) {
    uneven_ = true;
    passes_ = 0;
    start_anew();
    return {};
  }
  switch (state_) {
    case State::off:
      return {};
    case State::pass:
      passed_ += windows;
      if ((left_ -= windows) == 0) settle(warm_, true);
      return {};
    case State::settle:
      if (--left_ == 0) begin_group();
      return {};
    case State::measure:
      break;
  }
  // Trips longer than a window that began together end together: windows in which none does count too. Of
  // shorter trips such windows are those in which all loops are at what is not alike, which says nothing of
  // how many a window takes.
  Group& group = groups_.back();
  ++group.lasted;
  group.made += window.made;
  const bool seen = window.timed >= kLeastTimed;
  if (!seen && short_windows_) return {};
  if (seen) {
    const double mean = window.time.us() / static_cast<double>(window.timed);
    group.sum += mean;
    group.sum_of_squares += mean * mean;
    ++group.windows;
  }
  const bool long_trips = group.windows > 0 && group.mean() > window_us_;
  if (!seen && !long_trips) return {};
  if (left_ > 0) --left_;
  if (left_ > 0 || group.windows < kLeastInGroup) return {};
  const double sure = group.spread() / std::sqrt(static_cast<double>(group.windows));
  if (short_windows_ && sure > kSure &&
      group.windows < (passes_ == 0 && most_passes_ > 1 ? kMostInFirstGroup : kMostInGroup)) {
    left_ = 1;
    return {};
  }

  // Where every loop is one piece of work no whole piece is passed over.
  const double pieces = alike_ > 0 ? items_ * trips_ / (loops_ * alike_) : 0;  // of a loop
  if (passed_ == 0 && alike_ < kShortLoop * items_ && pieces > kOnePiece) {
    const double piece_us = group.mean() * alike_ / items_;
    const double enough = before_us_ > 0 ? kManyPiecesOfPart : kManyPieces;
    if (pieces + before_us_ / piece_us < enough) {
      state_ = State::off;
      return {};
    }
  }
  // Each group is a sample of the loops' ways to run (warpgroups may fall into step in more than one): the
  // mean of all since the last boundary is charged.
  double charged = 0;
  for (std::size_t i = first_group_; i < groups_.size(); ++i) charged += groups_[i].mean();
  charged /= static_cast<double>(groups_.size() - first_group_);

  const double end = uneven_ ? trips_ : even_;
  const double to_go = (end - made_) * (long_trips ? group.lasted : group.windows) / group.made - kTail;
  if (passes_ == 0) {
    // What windows of a few long trips each differ by says little.
    const bool steady = short_windows_ ? sure < kSteady : steady_clock_ && long_trips;
    const std::uint32_t most = std::min(most_passes_, steady ? kMostSteadyPasses : kMostPasses);
    passes_ = static_cast<std::uint32_t>(std::clamp(to_go / kWindowsPerPass, 1.0, static_cast<double>(most)));
  }
  warm_ = static_cast<std::uint32_t>(
      std::clamp(std::ceil(kWarmTrips * group.mean() / window_us_), 1.0, double{kMostWarm}));
  const double detail = (passes_ - 1) * (warm_ + kGroup);
  const double even_length = (to_go - detail) / passes_, length = std::min(even_length, most_windows);
  const double least = most_passes_ == 1 && short_windows_ ? kLeastOfBrief : kLeastPass;
  if (length < std::max(least, kLeastPass * group.mean() / window_us_)) return {};
  const bool last = passes_ == 1 && length == even_length;
  if (passes_ > 1 && length == even_length) --passes_;
  state_ = State::pass;
  // The last stretch of such a kernel goes on until it ends.
  left_ = group.passed = static_cast<std::uint32_t>(ends_alike_ && last ? 2 * length : length);
  return Pass{.windows = left_, .each = Time::from_us(charged)};
}

void TripSampling::end_pass(std::uint32_t windows) {
  if (state_ != State::pass) return;
  groups_.back().passed = std::min(left_, windows);
  passed_ += groups_.back().passed;
  state_ = State::off;
}

double TripSampling::half_width_windows() const {
  const auto quantile = [](double freedom) {
    return boost::math::quantile(boost::math::students_t{freedom}, 0.975);
  };
  if (passed_ == 0) return 0;
  double square = 0;
  for (std::uint32_t stretch = 0; stretch <= stretch_; ++stretch) {
    // By how much windows of a group differ, and groups of a stretch, relative to their means.
    double within = 0, sum = 0, sum_of_squares = 0, least = 0, most = 0;
    std::uint32_t windows = 0, groups = 0, passed = 0;
    for (const Group& g : groups_) {
      if (g.windows == 0 || g.stretch != stretch) continue;
      const double mean = g.mean();
      within += (g.sum_of_squares - g.sum * mean) / (mean * mean);
      windows += g.windows;
      passed += g.passed;
      sum += mean;
      sum_of_squares += mean * mean;
      least = groups == 0 ? mean : std::min(least, mean);
      most = std::max(most, mean);
      ++groups;
    }
    if (passed == 0 || windows <= groups) continue;
    const double freedom = windows - groups;
    const double chance = quantile(freedom) * std::sqrt(std::max(0.0, within) / freedom / windows);
    double change = 0;  // two groups only bound it: half of their difference
    if (groups == 2) change = (most - least) / sum;
    if (groups > 2) {
      const double variance = std::max(0.0, sum_of_squares - sum * sum / groups) / (groups - 1);
      change = quantile(groups - 1) * std::sqrt(variance / groups) / (sum / groups);
    }
    square += passed * passed * (chance * chance + change * change);
  }
  return std::sqrt(square) + kNotSampled * passed_;
}

}  // namespace tessera::sim
