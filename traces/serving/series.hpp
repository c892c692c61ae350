#pragma once
// A quantity over time in constant memory: means and greatest values over equal intervals, of which two
// become one whenever there are too many.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tessera::traces {

class Series {
 public:
  static constexpr std::size_t kMostIntervals = 512;
  Series() = default;
  explicit Series(std::size_t most_intervals) : most_intervals_{most_intervals} {}

  struct Interval {
    double area = 0;  ///< value times ns
    double most = 0;
  };

  /// The value is `value` from the last call's time until `now_ns`; times never fall.
  void hold(std::int64_t now_ns, double value) {
    while (last_ns_ < now_ns) {
      auto at = static_cast<std::size_t>(last_ns_ / width_ns_);
      if (at >= most_intervals_) {
        fold();
        continue;
      }
      if (at >= intervals_.size()) intervals_.resize(at + 1);
      const std::int64_t to = std::min(now_ns, static_cast<std::int64_t>(at + 1) * width_ns_);
      Interval& i = intervals_[at];
      i.area += value * static_cast<double>(to - last_ns_);
      i.most = std::max(i.most, value);
      last_ns_ = to;
    }
  }

  std::int64_t width_ns() const { return width_ns_; }
  std::int64_t end_ns() const { return last_ns_; }
  const std::vector<Interval>& intervals() const { return intervals_; }
  /// Over the interval's part that has passed.
  double mean(std::size_t i) const {
    const std::int64_t begin = static_cast<std::int64_t>(i) * width_ns_;
    return intervals_[i].area / static_cast<double>(std::min(width_ns_, last_ns_ - begin));
  }
  double mean() const {
    double area = 0;
    for (const Interval& i : intervals_) area += i.area;
    return last_ns_ == 0 ? 0 : area / static_cast<double>(last_ns_);
  }
  double most() const {
    double most = 0;
    for (const Interval& i : intervals_) most = std::max(most, i.most);
    return most;
  }

 private:
  void fold() {
    std::vector<Interval> wide((intervals_.size() + 1) / 2);
    for (std::size_t i = 0; i < intervals_.size(); ++i) {
      wide[i / 2].area += intervals_[i].area;
      wide[i / 2].most = std::max(wide[i / 2].most, intervals_[i].most);
    }
    intervals_ = std::move(wide);
    width_ns_ *= 2;
  }

  std::size_t most_intervals_ = kMostIntervals;
  std::vector<Interval> intervals_;
  std::int64_t width_ns_ = 1'000'000;  // 1 ms
  std::int64_t last_ns_ = 0;
};

}  // namespace tessera::traces
