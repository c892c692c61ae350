#include "sim/gpu/trip_sampling.hpp"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>

namespace tessera::sim {

namespace {

// In windows. The governor needs two or three to find its clock.
constexpr std::uint32_t kSettle = 3;
constexpr std::uint32_t kFirstGroup = 4, kGroup = 3;
constexpr std::uint32_t kWarm = 1;       // after trips were passed over: L2 and queues fill again
constexpr std::uint32_t kTail = 2;       // simulated before a boundary
constexpr std::uint32_t kLeastPass = 6;  // shorter is not worth a group of its own
constexpr std::uint32_t kMostPasses = 4;
constexpr std::uint32_t kWindowsPerPass = 12;
constexpr std::uint64_t kLeastTimed = 16;  // trips that make a window's mean

}  // namespace

void TripSampling::start(double trips, double even) {
  trips_ = trips;
  even_ = std::min(even, trips);
  made_ = 0;
  uneven_ = false;
  passed_ = 0;
  groups_.clear();
  owed_ = 0;
  state_ = State::off;
  if (trips > 0) settle(kSettle, false);
}

void TripSampling::settle(std::uint32_t windows, bool resumed) {
  state_ = State::settle;
  left_ = windows;
  resumed_ = resumed;
}

void TripSampling::begin_group() {
  state_ = State::measure;
  left_ = groups_.empty() || passes_ == 0 ? kFirstGroup : kGroup;
  groups_.emplace_back();
}

std::optional<TripSampling::Pass> TripSampling::add(const TripWindow& window) {
  if (state_ == State::off) return {};
  made_ += window.made;
  if (!uneven_ && made_ >= even_ && state_ != State::pass) {
    uneven_ = true;
    passes_ = 0;
    settle(kSettle, false);
    return {};
  }
  switch (state_) {
    case State::off:
      return {};
    case State::pass:
      ++passed_;
      if (--left_ == 0) settle(kWarm, true);
      return {};
    case State::settle:
      if (--left_ == 0) begin_group();
      return {};
    case State::measure:
      break;
  }
  if (window.timed < kLeastTimed) return {};
  Group& group = groups_.back();
  const double mean = window.time.us() / static_cast<double>(window.timed);
  group.sum += mean;
  group.sum_of_squares += mean * mean;
  group.made += window.made;
  ++group.windows;
  if (left_ > 0) --left_;
  if (left_ > 0) return {};

  // The trip time is taken to change evenly from one group to the next: what the pass between was charged too little
  // is made good on the next one.
  if (groups_.size() > 1 && left_ == 0) {
    const Group& before = groups_[groups_.size() - 2];
    owed_ = before.windows == 0 ? 0 : before.passed * (group.mean() - before.mean()) / 2;
  }

  const double end = uneven_ ? trips_ : even_;
  const double to_go = (end - made_) * group.windows / group.made - kTail;
  if (passes_ == 0) {
    passes_ = static_cast<std::uint32_t>(std::clamp(to_go / kWindowsPerPass, 1.0, static_cast<double>(kMostPasses)));
  }
  const double detail = (passes_ - 1) * (kWarm + kGroup);
  const double length = (to_go - detail) / passes_;
  if (length < kLeastPass) return {};
  if (passes_ > 1) --passes_;
  state_ = State::pass;
  left_ = group.passed = static_cast<std::uint32_t>(length);
  return Pass{.windows = left_, .each = Time::from_us(group.mean() + owed_ / left_)};
}

double TripSampling::half_width_windows() const {
  // Windows differ within a group by chance; from one group to the next also because the kernel changes, at any time
  // between them.
  double squares = 0, drift_squares = 0;
  std::uint32_t windows = 0, groups = 0;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    const Group& g = groups_[i];
    if (g.windows == 0) continue;
    squares += (g.sum_of_squares - g.sum * g.mean()) / (g.mean() * g.mean());
    windows += g.windows;
    ++groups;
    if (g.passed > 0 && i + 1 < groups_.size() && groups_[i + 1].windows > 0)
      drift_squares += std::pow(g.passed * (groups_[i + 1].mean() / g.mean() - 1) / 2, 2);
  }
  if (passed_ == 0 || windows <= groups) return 0;
  const double freedom = windows - groups;
  const double variance = std::max(0.0, squares) / freedom;
  double mean_variance = 0;  // of what was charged, in windows squared
  for (const Group& g : groups_) {
    if (g.passed > 0) mean_variance += variance / g.windows * g.passed * g.passed;
  }
  const double t = boost::math::quantile(boost::math::students_t{freedom}, 0.975);
  return t * std::sqrt(mean_variance) + std::sqrt(drift_squares);
}

}  // namespace tessera::sim
