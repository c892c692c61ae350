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

}  // namespace

Placement::Placement(const Sharding& whole, const Workload& workload, bool is_causal)
    : sharding{whole},
      alpha{static_cast<std::uint32_t>(whole.alpha())},
      beta{static_cast<std::uint32_t>(whole.beta())},
      r{first_tokens(whole.r, workload.prefill_tokens).sets},
      s{first_tokens(whole.s, workload.prefill_tokens).sets},
      r_owner{owners(whole.r)},
      s_owner{owners(whole.s)},
      overlap(alpha, std::vector<std::int64_t>(beta)),
      causal{is_causal} {
  for (std::uint32_t i = 0; i < alpha; ++i) {
    for (std::uint32_t j = 0; j < beta; ++j) overlap[i][j] = in_both(r[i], s[j]);
  }
}

bool Placement::sees(std::uint32_t j, std::uint32_t k) const {
  if (s[j].empty() || s[k].empty()) return false;
  return !causal || s[j].back() >= s[k].front();
}

std::int64_t Placement::context(std::uint32_t k, std::int64_t token) const {
  const auto& column = sharding.s.sets[k];
  return std::upper_bound(column.begin(), column.end(), static_cast<std::int32_t>(token)) - column.begin();
}

}  // namespace tessera::models
