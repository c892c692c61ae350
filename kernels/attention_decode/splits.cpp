#include "kernels/attention_decode/splits.hpp"

#include <algorithm>
#include <cmath>

namespace tessera::kernels {

std::uint32_t fewest_good_splits(std::int64_t tiles, std::int64_t sms, std::int64_t most) {
  const auto efficiency = [&](std::int64_t splits) {
    const double waves = static_cast<double>(tiles * splits) / static_cast<double>(sms);
    return waves / std::ceil(waves);
  };
  double best = 0;
  for (std::int64_t s = 1; s <= most; ++s) best = std::max(best, efficiency(s));
  for (std::int64_t s = 1; s <= most; ++s) {
    if (efficiency(s) >= 0.85 * best) return static_cast<std::uint32_t>(s);
  }
  return 1;
}

}  // namespace tessera::kernels
