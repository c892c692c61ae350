#include "validate/measure/spread_of_times.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "validate/percentile.hpp"

namespace tessera::measure {

using validate::median, validate::percentile;

Times spread_of(const std::vector<double>& samples) {
  if (samples.empty()) throw std::invalid_argument{"no samples"};
  std::vector<double> sorted = samples;
  std::sort(sorted.begin(), sorted.end());
  Times t{.median = percentile(sorted, 0.5),
          .least = sorted.front(),
          .most = sorted.back(),
          .p10 = percentile(sorted, 0.1),
          .p90 = percentile(sorted, 0.9)};
  const auto n = static_cast<double>(samples.size());
  for (const double x : samples) t.mean += x / n;
  double squares = 0;
  for (const double x : samples) squares += (x - t.mean) * (x - t.mean);
  t.sd = samples.size() > 1 ? std::sqrt(squares / (n - 1)) : 0;

  std::vector<double> distances;
  for (const double x : samples) distances.push_back(std::abs(x - t.median));
  const double limit = std::max(5 * 1.4826 * median(distances), 0.01 * t.median);
  for (std::size_t i = 0; i < samples.size(); ++i)
    if (std::abs(samples[i] - t.median) > limit) t.outliers.push_back(i);
  return t;
}

}  // namespace tessera::measure
