#include "models/dataflow/placement.hpp"

#include <algorithm>

namespace tessera::models {

namespace {

std::int64_t in_both(const std::vector<std::int32_t>& a, const std::vector<std::int32_t>& b) {
  std::int64_t n = 0;
  for (std::size_t i = 0, k = 0; i < a.size() && k < b.size();) {
    if (a[i] == b[k]) ++n;
    if (a[i] <= b[k])
      ++i;
    else
      ++k;
  }
  return n;
}

/// Of the prompt's part of each set, what is not cached.
std::vector<std::vector<std::int32_t>> new_tokens(const Partition& partition, const Workload& workload) {
  std::vector<std::vector<std::int32_t>> sets = first_tokens(partition, workload.prefill_tokens).sets;
  for (auto& set : sets) {
    const auto first_new =
        std::lower_bound(set.begin(), set.end(), static_cast<std::int32_t>(workload.cached_tokens));
    set.erase(set.begin(), first_new);
  }
  return sets;
}

}  // namespace

Placement::Placement(const Sharding& whole, const Workload& workload, bool is_causal)
    : sharding{whole},
      alpha{static_cast<std::uint32_t>(whole.alpha())},
      beta{static_cast<std::uint32_t>(whole.beta())},
      r{new_tokens(whole.r, workload)},
      s{new_tokens(whole.s, workload)},
      kept{first_tokens(whole.s, workload.prefill_tokens).sets},
      r_owner{owners(whole.r)},
      s_owner{owners(whole.s)},
      overlap(alpha, std::vector<std::int64_t>(beta)),
      causal{is_causal} {
  for (std::uint32_t i = 0; i < alpha; ++i) {
    for (std::uint32_t j = 0; j < beta; ++j) overlap[i][j] = in_both(r[i], s[j]);
  }
}

bool Placement::sees(std::uint32_t j, std::uint32_t k) const {
  if (s[j].empty() || kept[k].empty()) return false;
  return !causal || s[j].back() >= kept[k].front();
}

std::int64_t Placement::context(std::uint32_t k, std::int64_t token) const {
  const auto& column = sharding.s.sets[k];
  return std::upper_bound(column.begin(), column.end(), static_cast<std::int32_t>(token)) - column.begin();
}

}  // namespace tessera::models
