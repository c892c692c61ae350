#pragma once
// Which K/V tiles each query tile must visit.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "models/operators/operator.hpp"

namespace tessera::kernels {

/// The warpgroups of a CTA take about as many trips to fall into step with each other.
inline constexpr std::uint32_t kTripsToStep = 32;

struct QueryTile {
  std::uint32_t first_row = 0, rows = 0;
  std::uint32_t kv_tiles = 0;        ///< visited: 0 .. kv_tiles - 1
  std::uint32_t unmasked_tiles = 0;  ///< of these, the leading ones that every row sees whole

  /// Of the trips from number `i` on, from the last key tile down, those that are alike: all but the first ones, the
  /// masked ones, and the last.
  std::uint32_t alike(std::uint32_t i) const {
    return i >= kTripsToStep && i + unmasked_tiles >= kv_tiles && i + 1 < kv_tiles ? kv_tiles - 1 - i : 0;
  }
  std::uint32_t alike() const { return alike(std::max(kTripsToStep, kv_tiles - std::min(kv_tiles, unmasked_tiles))); }
};

/// The tiles of one sequence and head. Visible keys are a prefix of the kv rows for every query row
/// (positions are sorted), so two numbers per tile say it all.
inline std::vector<QueryTile> query_tiles(const models::Attention& a, std::uint32_t tile_q,
                                          std::uint32_t tile_kv) {
  std::vector<QueryTile> tiles;
  for (std::int64_t first = 0; first < a.q_rows; first += tile_q) {
    QueryTile t;
    t.first_row = static_cast<std::uint32_t>(first);
    t.rows = static_cast<std::uint32_t>(std::min<std::int64_t>(tile_q, a.q_rows - first));
    const std::int64_t least = a.visible(first), most = a.visible(first + t.rows - 1);
    t.kv_tiles = static_cast<std::uint32_t>((most + tile_kv - 1) / tile_kv);
    t.unmasked_tiles = static_cast<std::uint32_t>(least / tile_kv);
    tiles.push_back(t);
  }
  return tiles;
}

}  // namespace tessera::kernels
