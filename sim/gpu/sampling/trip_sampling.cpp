#include "sim/gpu/sampling/trip_sampling.hpp"

#include <algorithm>
#include <cmath>

#include "sim/gpu/sampling/share.hpp"

namespace tessera::sim {

namespace {

// In windows. The governor needs two or three to find its clock; caches and queues are full sooner.
constexpr std::uint32_t kSettleClock = 3, kSettle = 2;
constexpr std::uint32_t kFirstGroup = 4, kGroup = 3, kLeastInGroup = 2;
// Where windows are short a group goes on until its mean is this sure.
constexpr std::uint32_t kMostInFirstGroup = 8, kMostInGroup = 4;
constexpr double kSure = 0.003;  // standard error, relative to the mean
// After trips were passed over: L2 and queues fill again, and warpgroups fall into step.
constexpr std::uint32_t kMostWarm = 2;
constexpr double kWarmTrips = 24;
constexpr std::uint32_t kTail = 2;       // simulated before a section ends
constexpr std::uint32_t kLeastPass = 6;  // and as many trips: shorter is not worth a group of its own
constexpr double kLeastOfBrief = 40;     // of what takes just little time of a run, and is short itself
constexpr std::uint32_t kMostPasses = 4;
// When the mean power reaches the cap is known better the nearer it is: less than this share of a stretch
// that ended for it, and ended too early, is not worth a group of its own either.
constexpr double kRest = 0.1;
// Where the clock cannot drift and windows hardly differ, two groups show about as much as four.
constexpr double kSteady = 0.01;  // standard error of a group, relative to its mean
constexpr std::uint32_t kMostSteadyPasses = 2;
constexpr std::uint32_t kWindowsPerPass = 12;
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

void TripSampling::start(const TripCount& count, double window_us, bool short_windows) {
  count_ = count;
  even_ = count.ends_alike ? count.trips : std::min(count.even, count.trips);
  most_passes_ = takes_little(count.share) ? 1 : count.share < kSomeShare ? kMostSteadyPasses : kMostPasses;
  window_us_ = window_us;
  steady_clock_ = short_windows_ = short_windows;
  made_ = items_ = alike_ = 0;
  passes_ = 0;
  cut_to_ = 0;
  uneven_ = false;
  passed_ = 0;
  groups_.clear();
  state_ = State::off;
  if (count.trips > 0) {
    settle(std::max(short_windows_ ? kSettle : kSettleClock,
                    static_cast<std::uint32_t>(std::ceil(count.fills.us() / window_us))),
           false);
  }
}

void TripSampling::settle(std::uint32_t windows, bool resumed) {
  state_ = State::settle;
  left_ = windows;
  resumed_ = resumed;
}

void TripSampling::begin_group() {
  state_ = State::measure;
  left_ = passes_ == 0 && !short_windows_ ? kFirstGroup : kGroup;
  groups_.begin_group();
}

void TripSampling::start_anew() {
  if (state_ == State::off) return;
  groups_.begin_section();
  settle(short_windows_ ? kSettle : kSettleClock, false);
}

bool TripSampling::divisible(const TripWindow& window, double parts) const {
  return settling() && static_cast<double>(window.timed) >= std::max(count_.loops, kLeastInPart * parts);
}

void TripSampling::resize(double window_us, bool short_windows) {
  window_us_ = window_us;
  short_windows_ = short_windows;
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
      break;
    case State::pass:
      passed_ += windows;
      if ((left_ -= windows) == 0) settle(warm_, true);
      break;
    case State::settle:
      // What had to end early, and is found to have ended too early, goes on as it was.
      if (resumed_ && most_windows >= kLeastPass && most_windows < kRest * cut_to_) {
        cut_to_ = most_windows;
        return pass(most_windows);
      }
      if (--left_ == 0) begin_group();
      break;
    case State::measure:
      if (!measure(window)) break;
      if (!worth_passing()) {
        state_ = State::off;
        break;
      }
      return begin_pass(most_windows);
  }
  return {};
}

bool TripSampling::measure(const TripWindow& window) {
  // Trips longer than a window that began together end together: windows in which none does count too. Of
  // shorter trips such windows are those in which all loops are at what is not alike, which says nothing of
  // how many a window takes.
  TripGroup& group = groups_.last();
  ++group.lasted;
  group.made += window.made;
  const bool seen = window.timed >= kLeastTimed;
  if (seen) group.add(window);
  if (!seen && (short_windows_ || group.windows == 0 || !long_trips())) return false;
  if (left_ > 0) --left_;
  if (left_ > 0 || group.windows < kLeastInGroup) return false;
  const std::uint32_t most = passes_ == 0 && most_passes_ > 1 ? kMostInFirstGroup : kMostInGroup;
  if (short_windows_ && group.error() > kSure && group.windows < most) {
    left_ = 1;
    return false;
  }
  return true;
}

bool TripSampling::worth_passing() const {
  // Where every loop is one piece of work no whole piece is passed over.
  const double pieces = alike_ > 0 ? items_ * count_.trips / (count_.loops * alike_) : 0;  // of a loop
  if (passed_ > 0 || alike_ >= kShortLoop * items_ || pieces <= kOnePiece) return true;
  const double piece_us = groups_.last().mean_us() * alike_ / items_;
  const double enough = count_.before > Time{} ? kManyPiecesOfPart : kManyPieces;
  return pieces + count_.before.us() / piece_us >= enough;
}

std::optional<TripSampling::Pass> TripSampling::begin_pass(double most_windows) {
  const TripGroup& group = groups_.last();
  const double end = uneven_ ? count_.trips : even_;
  const double to_go = (end - made_) * (long_trips() ? group.lasted : group.windows) / group.made - kTail;
  if (passes_ == 0) {
    // What windows of a few long trips each differ by says little.
    const bool steady = short_windows_ ? group.error() < kSteady : steady_clock_ && long_trips();
    const std::uint32_t most = std::min(most_passes_, steady ? kMostSteadyPasses : kMostPasses);
    passes_ = static_cast<std::uint32_t>(std::clamp(to_go / kWindowsPerPass, 1.0, static_cast<double>(most)));
  }
  const double mean_us = group.mean_us();
  warm_ = static_cast<std::uint32_t>(
      std::clamp(std::ceil(kWarmTrips * mean_us / window_us_), 1.0, double{kMostWarm}));
  const double detail = (passes_ - 1) * (warm_ + kGroup);
  const double even_length = (to_go - detail) / passes_, length = std::min(even_length, most_windows);
  // The less a kernel takes of a run, the less it matters that a short one is known badly.
  const double least =
      most_passes_ == 1 && short_windows_ ? kLeastOfBrief * count_.share / kLittleShare : kLeastPass;
  if (length < std::max({least, double{kLeastPass}, kLeastPass * mean_us / window_us_})) return {};
  const bool last = passes_ == 1 && length == even_length;
  if (passes_ > 1 && length == even_length) --passes_;
  cut_to_ = length < even_length ? length : 0;
  // The last stretch of a kernel that ends alike goes on until it ends.
  return pass(count_.ends_alike && last ? 2 * length : length);
}

TripSampling::Pass TripSampling::pass(double windows) {
  state_ = State::pass;
  left_ = static_cast<std::uint32_t>(windows);
  groups_.last().passed += left_;
  return {.windows = left_, .each = Time::from_us(groups_.mean_us())};
}

void TripSampling::end_pass(std::uint32_t windows) {
  if (state_ != State::pass) return;
  const std::uint32_t done = std::min(left_, windows);
  groups_.last().passed -= left_ - done;
  passed_ += done;
  state_ = State::off;
}

double TripSampling::half_width_windows() const {
  return passed_ == 0 ? 0 : groups_.half_width_windows() + kNotSampled * passed_;
}

}  // namespace tessera::sim
