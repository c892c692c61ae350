#pragma once
// Which K/V tiles each query tile must visit.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/tile/kernel.hpp"
#include "models/operators/operator.hpp"

namespace tessera::kernels {

/// The warpgroups of a CTA take about as many trips to fall into step with each other.
inline constexpr std::uint32_t kTripsToStep = 32;

struct QueryTile {
  std::uint32_t first_row = 0, rows = 0;
  std::uint32_t kv_tiles = 0;        ///< visited: 0 .. kv_tiles - 1
  std::uint32_t unmasked_tiles = 0;  ///< of these, the leading ones that every row sees whole

  /// Of the trips from number `i` on, from the last key tile down, those that are alike: all but the first
  /// ones, the masked ones, and the last.
  std::uint32_t alike(std::uint32_t i) const {
    return i >= kTripsToStep && i + unmasked_tiles >= kv_tiles && i + 1 < kv_tiles ? kv_tiles - 1 - i : 0;
  }
  std::uint32_t alike() const {
    return alike(std::max(kTripsToStep, kv_tiles - std::min(kv_tiles, unmasked_tiles)));
  }
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

/// The outline's pieces: one per query tile, the longest first if they differ, or `in_order` of their rows;
/// one round per section of heads. `value_dim`: of V and the output, where it is not the head dimension.
inline void add_pieces(tile::Outline& o, const std::vector<QueryTile>& tiles, std::uint32_t tile_kv,
                       const models::Attention& a, std::uint64_t element_bytes,
                       std::uint32_t heads_per_section = 0, std::int64_t value_dim = 0,
                       bool in_order = false) {
  const auto heads = static_cast<std::uint64_t>(a.batch * a.heads);
  const std::uint64_t width =
      heads_per_section == 0 ? heads : std::min<std::uint64_t>(heads_per_section, heads);
  o.rounds = (heads + width - 1) / width;
  const auto row_bytes = static_cast<std::uint64_t>(a.head_dim) * element_bytes;
  const std::uint64_t v_bytes =
      value_dim > 0 ? static_cast<std::uint64_t>(value_dim) * element_bytes : row_bytes;
  for (std::size_t i = tiles.size(); i-- > 0;) {
    const QueryTile& t = tiles[in_order ? tiles.size() - 1 - i : i];
    if (!o.pieces.empty() && o.pieces.back().trips == t.kv_tiles)
      o.pieces.back().count += width;
    else
      o.pieces.push_back({width, t.kv_tiles});
    const std::uint64_t keys =
        std::min<std::uint64_t>(std::uint64_t{t.kv_tiles} * tile_kv, static_cast<std::uint64_t>(a.kv_rows));
    o.load_bytes += heads * (t.rows * row_bytes + keys * (row_bytes + v_bytes));
    o.store_bytes += heads * t.rows * (v_bytes + (a.partial ? 8 : 0));
  }
}

/// A tile of as many key tiles, with as many masked ones as the last tile has.
inline QueryTile excerpt_of(const std::vector<QueryTile>& tiles, std::uint32_t kv_tiles) {
  QueryTile t = tiles.front();
  const std::uint32_t masked =
      tiles.back().kv_tiles - std::min(tiles.back().unmasked_tiles, tiles.back().kv_tiles);
  t.first_row = 0;
  t.kv_tiles = kv_tiles;
  t.unmasked_tiles = kv_tiles - std::min(masked, kv_tiles);
  return t;
}

}  // namespace tessera::kernels
