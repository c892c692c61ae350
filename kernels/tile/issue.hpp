#pragma once
// What issuing an operation takes on an SM, the same for the simulated SM and the cost model's counter.

#include <cstdint>

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

}  // namespace tessera::tile
