#pragma once
// What a sharding means for one prompt: who owns which rows, whose sets meet, which AttnNodes see anything.

#include <cstdint>
#include <vector>

#include "models/dataflow/build.hpp"

namespace tessera::models {

/// CompNode i is node i; AttnNode (j, k) is node alpha + j beta + k.
struct Placement {
  Placement(const Sharding& sharding, const Workload& workload, bool causal);

  const Sharding& sharding;
  std::uint32_t alpha = 0, beta = 0;
  std::vector<std::vector<std::int32_t>> r, s;     ///< of each set, the prompt's tokens that are not cached
  std::vector<std::vector<std::int32_t>> kept;     ///< of each S, all of the prompt's
  std::vector<std::int32_t> r_owner, s_owner;      ///< of every token, those to be decoded included
  std::vector<std::vector<std::int64_t>> overlap;  ///< tokens of r_i and s_j
  bool causal = true;

  std::uint32_t attn(std::uint32_t j, std::uint32_t k) const { return alpha + j * beta + k; }
  std::int64_t r_rows(std::uint32_t i) const { return static_cast<std::int64_t>(r[i].size()); }
  std::int64_t s_rows(std::uint32_t j) const { return static_cast<std::int64_t>(s[j].size()); }
  std::int64_t kept_rows(std::uint32_t k) const { return static_cast<std::int64_t>(kept[k].size()); }
  /// Whether any row of s_j may see any that is kept of S_k.
  bool sees(std::uint32_t j, std::uint32_t k) const;
  /// How many tokens of S_k, decoded ones included, are `token` or come before it.
  std::int64_t context(std::uint32_t k, std::int64_t token) const;
};

}  // namespace tessera::models
