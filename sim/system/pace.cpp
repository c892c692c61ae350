#include "sim/system/pace.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <numeric>

namespace tessera::sim {

namespace {

int octave_of(double size) { return std::ilogb(std::max(size, 1e-300)); }

/// 0, 1/2, 1/4, 3/4, 1/8, ...: the bits of n mirrored.
double spread(std::uint32_t n) {
  double x = 0;
  for (double bit = 0.5; n != 0; n >>= 1, bit /= 2) x += (n & 1U) != 0 ? bit : 0;
  return x;
}

}  // namespace

void Pace::ended(double size, double seconds) {
  Met& met = octaves_[octave_of(size)];
  met.seconds += seconds;
  ++met.pieces;
}

double Pace::seconds(double size) const {
  if (octaves_.empty()) return 0;
  const int octave = octave_of(size);
  const auto above = octaves_.lower_bound(octave);
  if (above == octaves_.end()) return octaves_.rbegin()->second.mean();
  if (above->first == octave || above == octaves_.begin()) return above->second.mean();
  const auto below = std::prev(above);
  const double x = static_cast<double>(octave - below->first) / (above->first - below->first);
  return std::pow(below->second.mean(), 1 - x) * std::pow(above->second.mean(), x);
}

std::vector<std::size_t> order_of(const std::vector<double>& sizes) {
  constexpr std::size_t kEvery = 4;
  std::vector<std::size_t> sorted(sizes.size()), order;
  std::iota(sorted.begin(), sorted.end(), std::size_t{0});
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](std::size_t a, std::size_t b) { return sizes[a] > sizes[b]; });
  std::vector<bool> taken(sizes.size());
  const auto take = [&](std::size_t place) {
    while (taken[place]) place = (place + 1) % sorted.size();
    taken[place] = true;
    order.push_back(sorted[place]);
    return place;
  };
  std::size_t longest = 0;
  for (std::uint32_t probe = 0; order.size() < sorted.size();) {
    if (order.size() % kEvery == kEvery - 1)
      take(static_cast<std::size_t>((1 - spread(++probe)) * static_cast<double>(sorted.size() - 1)));
    else
      longest = take(longest);
  }
  return order;
}

}  // namespace tessera::sim
