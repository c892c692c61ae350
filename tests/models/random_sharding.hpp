#pragma once

#include <random>

#include "models/sharding/sharding.hpp"

namespace tessera::models::testing {

/// Any token to any set: ragged sizes, empty sets and empty intersections included.
inline Partition random_partition(std::int64_t tokens, int sets, std::mt19937_64& random) {
  Partition p;
  p.tokens = tokens;
  p.sets.resize(static_cast<std::size_t>(sets));
  std::uniform_int_distribution<std::size_t> any{0, static_cast<std::size_t>(sets) - 1};
  for (std::int32_t t = 0; t < tokens; ++t) p.sets[any(random)].push_back(t);
  return p;
}

}  // namespace tessera::models::testing
