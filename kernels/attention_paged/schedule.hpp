#pragma once
// What FlashAttention-3 decides before a variable-length call: tile sizes, splits, the order of tiles.

#include <cstdint>

#include "kernels/attention_paged/call.hpp"

namespace tessera::kernels {

struct PagedSchedule {
  std::uint32_t tile_q = 0, tile_kv = 0;  ///< rows of packed queries, keys
  bool p_in_registers = true;             ///< A operand of PV
  std::uint32_t query_tiles = 0;          ///< per sequence and key head
  std::uint32_t most_splits =
      1;                     ///< what the kernel is compiled and launched for: above 1, a combination follows
  std::uint32_t splits = 1;  ///< of each sequence, decided on the GPU
  std::uint32_t heads_in_l2 = 1;  ///< key heads that take turns at equal query tiles
  bool longest_first = false;
  bool overlapped = true;  ///< the schedule kernel is one CTA, beside which the attention is launched
};

PagedSchedule schedule_of(const PagedCall& call, std::int64_t sms);
/// What follows from the tile sizes: query_tiles, overlapped, most_splits and splits.
void choose_splits(PagedSchedule& schedule, const PagedCall& call, std::int64_t sms);

}  // namespace tessera::kernels
