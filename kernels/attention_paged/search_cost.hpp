#pragma once
// What FlashAttention-3's variable-length kernels spend on the way to the next tile, and on page tables:
// dependent instruction chains of one warp, in cycles. A shuffle takes about 24, an integer operation 5.

#include <cstdint>

#include "kernels/tile/latency.hpp"

namespace tessera::kernels {

inline constexpr std::uint32_t kSequencesPerStep = 31;  // of the search: one per lane, less one
/// The least distance to the next sequence that takes the search as many steps as this one.
inline constexpr std::uint32_t searched_sequences(std::uint32_t apart) {
  return apart < kSequencesPerStep ? 1 : apart;
}
inline constexpr std::uint32_t kSearchStep =
    230;  // prefix sum over the lanes in five steps, total, comparison
// PagedKVManager (hopper/paged_kv.h): page and row in it by FastDivmod, a multiplication's upper half, a
// shift, a selection and the remainder; two products of an index and a 64-bit stride, three instructions
// each, and two sums of two; the pointer goes to the lanes of the row by a shuffle.
inline constexpr std::uint64_t kPagePointers = Chains::alu(4 + 2 * 3 + 2 * 2) + kShuffleLatency;
inline constexpr std::uint32_t kL1Hit = 38;
// The way into a tile, for the producer and the consumers alike (BlockMN::get_n_block_min_max,
// hopper/block.h): tiles of keys and the last that the mask leaves, by constants (20 instructions that wait
// for each other, a fast division by the query heads of a key head among them), shared out over the splits by
// a division proper.
inline constexpr std::uint64_t kTileSetup = Chains::integer_division() + Chains::alu(20);
// Eight threads copy 128 B of a row at a time, so that the 128 of the producer have 16 rows in one pass.
inline constexpr std::uint32_t kRowsPerPass = 16, kBytesPerPass = 128;

}  // namespace tessera::kernels
