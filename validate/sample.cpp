#include "validate/sample.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>

namespace tessera::validate {

void leave_out_longer(Measurements& measurements, double us) {
  for (const Measurement& row : measurements.rows) {
    if (row.measured_us > us)
      measurements.skip(row.file, row.kind, fmt::format("longer than {} ms", us / 1e3));
  }
  std::erase_if(measurements.rows, [us](const Measurement& row) { return row.measured_us > us; });
}

void sample(std::vector<Measurement>& rows, std::size_t most, std::uint64_t seed) {
  std::map<std::string, std::vector<std::size_t>> by_kind;
  for (std::size_t i = 0; i < rows.size(); ++i) by_kind[rows[i].kind].push_back(i);
  std::vector<std::size_t> kept;
  for (auto& [kind, indices] : by_kind) {
    std::uint64_t mixed = seed;  // FNV-1a, so that two kinds of equal length are not drawn alike
    for (const char c : kind) mixed = (mixed ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    std::mt19937_64 random{mixed};
    // The start of a Fisher-Yates shuffle; std::sample and the distributions differ between libraries.
    const std::size_t count = std::min(most, indices.size());
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t other = i + static_cast<std::size_t>(random() % (indices.size() - i));
      std::swap(indices[i], indices[other]);
      kept.push_back(indices[i]);
    }
  }
  std::sort(kept.begin(), kept.end());
  std::vector<Measurement> chosen;
  chosen.reserve(kept.size());
  for (const std::size_t i : kept) chosen.push_back(std::move(rows[i]));
  rows = std::move(chosen);
}

}  // namespace tessera::validate
