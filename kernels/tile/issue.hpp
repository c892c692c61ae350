#pragma once
// What issuing an operation takes on an SM, the same for the simulated SM and the cost model's counter.

#include <algorithm>
#include <cstdint>

#include "kernels/tile/op.hpp"
#include "sim/core/hardware.hpp"

namespace tessera::tile {

/// A warp instruction that only posts something (arrive, expect, a TMA or wgmma descriptor) holds its warp
/// for about the issue latency of one uniform-datapath instruction.
inline constexpr double kPostCycles = 4;
/// A dependent chain at the end of an elementwise block: the last results must be written back.
inline constexpr double kVectorLatency = 12;
inline constexpr double kThreadsPerWarp = 32;
/// Stores from registers are posted; the way to the L2 holds a few of them for each warp.
inline constexpr std::uint32_t kPostedStores = 4;

/// wgmma instructions of a product: m64nNk16 with operands of 16 bits. Between two of them another
/// warpgroup's may be served.
constexpr std::uint32_t wgmma_instructions(std::uint32_t m, std::uint32_t k) {
  return ((m + 63) / 64) * ((k + 15) / 16);
}

/// Cycles that the TMA is busy with the box of a tma_load or tma_store: it goes through the lines of global
/// memory and the pieces in shared memory at once, so that the slower of the two counts.
inline double tma_cycles(const SmSpec& sm, const Op& op) {
  const double each = op.kind == OpKind::tma_load ? sm.tma_load_piece_cycles : sm.tma_store_piece_cycles;
  return std::max(static_cast<double>(op.box.lines()) / sm.tma_lines_per_cycle,
                  static_cast<double>(op.count) * each);
}

}  // namespace tessera::tile
