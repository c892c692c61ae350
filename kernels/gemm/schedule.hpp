#pragma once
// The order in which output tiles are visited: bands of tile rows, column by column inside a band, so
// that the CTAs running at one time share a compact set of A and W tiles in the L2.

#include <algorithm>
#include <cstdint>

namespace tessera::kernels {

struct TileOrder {
  std::uint32_t rows = 0;  ///< output tiles (or clusters of them) along m
  std::uint32_t cols = 0;  ///< along n
  std::uint32_t band = 8;  ///< tile rows per band

  struct Tile {
    std::uint32_t row, col;
  };
  std::uint32_t count() const { return rows * cols; }
  Tile at(std::uint32_t index) const {
    const std::uint32_t per_band = band * cols;
    const std::uint32_t first_row = index / per_band * band;
    const std::uint32_t height = std::min(band, rows - first_row);
    const std::uint32_t within = index % per_band;
    return {first_row + within % height, within / height};
  }
};

}  // namespace tessera::kernels
