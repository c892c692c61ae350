#pragma once
// A distribution of durations in constant memory.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace tessera::traces {

/// Counts by ranges 1/256 of their power of two wide: quantiles within 0.2 %; count, mean and extremes exact.
class Histogram {
 public:
  void add(std::int64_t ns, std::int64_t times = 1) {
    if (times <= 0) return;
    ns = std::max<std::int64_t>(0, ns);
    counts_[index(static_cast<std::uint64_t>(ns))] += times;
    least_ = count_ == 0 ? ns : std::min(least_, ns);
    most_ = std::max(most_, ns);
    count_ += times;
    sum_ += static_cast<double>(ns) * static_cast<double>(times);
  }

  std::int64_t count() const { return count_; }
  double mean_ns() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }
  std::int64_t least_ns() const { return least_; }
  std::int64_t most_ns() const { return most_; }

  /// The value that `share` of all are at most: 0 of none.
  double quantile_ns(double share) const {
    if (count_ == 0) return 0;
    const double rank = share * static_cast<double>(count_);
    std::int64_t below = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      below += counts_[i];
      if (static_cast<double>(below) < rank || counts_[i] == 0) continue;
      const double middle = 0.5 * (lower(i) + lower(i + 1));
      return std::clamp(middle, static_cast<double>(least_), static_cast<double>(most_));
    }
    return static_cast<double>(most_);
  }

 private:
  static constexpr unsigned kBits = 8;  // of a power of two
  static std::size_t index(std::uint64_t v) {
    if (v < (1U << kBits)) return static_cast<std::size_t>(v);
    const auto shift = static_cast<unsigned>(std::bit_width(v)) - kBits - 1;
    return (static_cast<std::size_t>(shift) << kBits) + static_cast<std::size_t>(v >> shift);
  }
  static double lower(std::size_t i) {
    if (i < (2U << kBits)) return static_cast<double>(i);
    const std::size_t shift = (i >> kBits) - 1;
    return static_cast<double>((i & ((1U << kBits) - 1)) + (1U << kBits)) *
           static_cast<double>(std::uint64_t{1} << shift);
  }

  std::vector<std::int64_t> counts_ = std::vector<std::int64_t>(std::size_t{58} << kBits);
  std::int64_t count_ = 0, least_ = 0, most_ = 0;
  double sum_ = 0;
};

}  // namespace tessera::traces
