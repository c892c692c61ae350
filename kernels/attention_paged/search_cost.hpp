#pragma once
// What FlashAttention-3's variable-length kernels spend on the way to the next tile, and on page tables:
// dependent instruction chains of one warp, in cycles. A shuffle takes about 24, an integer operation 5.

#include <cstdint>

namespace tessera::kernels {

inline constexpr std::uint32_t kSequencesPerStep = 31;  // of the search: one per lane, less one
inline constexpr std::uint32_t kSearchStep =
    230;  // prefix sum over the lanes in five steps, total, comparison
inline constexpr std::uint32_t kPagePointers =
    80;  // division by the page size, 64-bit pointers, first broadcast
inline constexpr std::uint32_t kL1Hit = 38;
// The way into a tile, for the producer and the consumers alike: lengths, ranges of key tiles by integer
// divisions.
inline constexpr std::uint32_t kTileSetup = 200;
// Eight threads copy 128 B of a row at a time, so that the 128 of the producer have 16 rows in one pass.
inline constexpr std::uint32_t kRowsPerPass = 16, kBytesPerPass = 128;

}  // namespace tessera::kernels
