#pragma once
// The statistics of repeated timings.

#include <cstddef>
#include <vector>

namespace tessera::measure {

struct Times {
  double median = 0, mean = 0, sd = 0, least = 0, most = 0, p10 = 0, p90 = 0;
  /// Samples further from the median than 5 x 1.4826 x the median absolute deviation (that many standard
  /// deviations of normal noise), and than 1 % of the median. They stay in all figures.
  std::vector<std::size_t> outliers;
};

/// Percentiles are interpolated linearly. std::invalid_argument without samples.
Times spread_of(const std::vector<double>& samples);

}  // namespace tessera::measure
