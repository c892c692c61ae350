#include "kernels/tile/occupancy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace tessera::tile {

unsigned resident_ctas(const SmSpec& sm, const LaunchShape& shape) {
  const auto fit = [&](std::int64_t need, std::int64_t have, const char* what) {
    if (need > have) {
      throw std::invalid_argument{
          fmt::format("{}: a CTA needs {} {}, an SM has {}", shape.name, need, what, have)};
    }
    return need == 0 ? std::int64_t{sm.max_ctas} : have / need;
  };
  const std::int64_t shared = shape.shared_bytes + sm.shared_bytes_reserved_per_cta;
  fit(shape.shared_bytes, sm.shared_bytes_per_cta, "bytes of shared memory");
  return static_cast<unsigned>(
      std::min({fit(shape.threads(), sm.max_threads, "threads"),
                fit(shape.registers_per_cta, sm.registers, "registers"),
                fit(shared, sm.shared_bytes, "bytes of shared memory"), std::int64_t{sm.max_ctas}}));
}

}  // namespace tessera::tile
