#include "sim/gpu/sampling/trip_groups.hpp"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>

namespace tessera::sim {

namespace {

/// 97.5 % of Student's distribution.
double quantile(double freedom) { return boost::math::quantile(boost::math::students_t{freedom}, 0.975); }

}  // namespace

double TripGroup::spread() const {
  const double variance = windows < 2 ? 0 : (sum_of_squares - sum * mean_us()) / (windows - 1);
  return std::sqrt(std::max(0.0, variance)) / mean_us();
}

double TripGroup::error() const { return spread() / std::sqrt(static_cast<double>(windows)); }

void TripGroups::clear() {
  groups_.clear();
  first_ = 0;
  section_ = 0;
}

void TripGroups::begin_section() {
  if (!groups_.empty() && groups_.back().windows == 0) groups_.pop_back();
  first_ = groups_.size();
  ++section_;
}

double TripGroups::mean_us() const {
  double sum = 0;
  for (std::size_t i = first_; i < groups_.size(); ++i) sum += groups_[i].mean_us();
  return sum / static_cast<double>(groups_.size() - first_);
}

double TripGroups::half_width_windows() const {
  double square = 0;
  for (std::uint32_t section = 0; section <= section_; ++section) {
    // Relative to their means.
    double within = 0, sum = 0, sum_of_squares = 0, least = 0, most = 0;
    std::uint32_t windows = 0, groups = 0, passed = 0;
    for (const TripGroup& g : groups_) {
      if (g.windows == 0 || g.section != section) continue;
      const double mean = g.mean_us();
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
  return std::sqrt(square);
}

}  // namespace tessera::sim
