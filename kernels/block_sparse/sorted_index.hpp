#pragma once
// MoBA's index of each block's queries by sorting, as PyTorch's sort has it: CUB's radix sort of (list,
// block) keys, and its scan. What it writes is what launch_index_build writes, with each list's entries in
// the order of the queries.

#include "kernels/block_sparse/moba.hpp"

namespace tessera::cuda {

/// Scratch beside that of the call.
struct SortedIndex {
  std::uint32_t* keys = nullptr;        ///< [2, items]: given, sorted
  std::int32_t* queries = nullptr;      ///< [items]: row x topk + slot
  std::int32_t* list_of = nullptr;      ///< [lists x (blocks + 1)]
  std::int32_t* tile_counts = nullptr;  ///< the same
  void* temporary = nullptr;            ///< CUB's own
};
TESSERA_HOST_DEVICE constexpr std::int64_t index_items(const MobaCall& c) {
  return c.batch * c.heads * c.seq * c.topk;
}
TESSERA_HOST_DEVICE constexpr std::int64_t index_lists(const MobaCall& c) {
  return c.batch * c.heads * c.segments();
}
/// More than CUB asks for: a second buffer of keys and queries, and a histogram of 256 for each tile of 1024
/// or more items.
constexpr std::int64_t index_temporary_bytes(std::int64_t items) {
  return 10 * items + (std::int64_t{4} << 20);
}

/// Writes entries, offsets and tiles. std::invalid_argument if lists and blocks need more than 32 bits;
/// std::runtime_error if CUB asks for more memory than is given.
void launch_sorted_index(const MobaCall& call, const SortedIndex& scratch, Stream stream);

}  // namespace tessera::cuda
