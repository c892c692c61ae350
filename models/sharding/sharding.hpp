#pragma once
// Which node owns which tokens: R over the CompNodes, S over the rows and columns of AttnNodes.

#include <cstdint>
#include <string>

#include "models/sharding/partition.hpp"

namespace tessera::models {

/// Both partitions cover the prompt and every token still to be decoded.
struct Sharding {
  Partition r;  ///< alpha sets: CompNodes
  Partition s;  ///< beta sets: AttnNode (j, k) has the q rows of S_j and the k, v rows of S_k

  int alpha() const { return static_cast<int>(r.sets.size()); }
  int beta() const { return static_cast<int>(s.sets.size()); }
};

/// Throws std::invalid_argument if R or S does not partition the same tokens.
void check(const Sharding& sharding);

}  // namespace tessera::models
