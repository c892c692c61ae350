#pragma once
// What instructions that wait for each other take, in SM cycles: the latencies of which a tile program's
// chains are counted.

#include <cstdint>

#include "kernels/tile/issue.hpp"
#include "sim/core/hardware.hpp"

namespace tessera::kernels {

/// Hopper: an FP32 or integer result to its use; a shuffle; a MUFU result. [arXiv 2402.13499 and public
/// microbenchmarks]
inline constexpr std::uint32_t kAluLatency = 4, kShuffleLatency = 24, kMufuLatency = 22;

/// Chains that recur in compiled kernels, counted in instructions of their machine code.
struct Chains {
  std::uint64_t shared, l1, barrier, tensor;

  explicit Chains(const SmSpec& sm)
      : shared{static_cast<std::uint64_t>(sm.shared_latency)},
        l1{static_cast<std::uint64_t>(sm.l1_latency)},
        barrier{static_cast<std::uint64_t>(sm.named_barrier_latency)},
        tensor{static_cast<std::uint64_t>(sm.tensor_latency)} {}

  static constexpr std::uint64_t alu(std::uint64_t instructions) { return instructions * kAluLatency; }
  /// A sum over `lanes` (a power of two) lanes of a warp, each of which gets it.
  static constexpr std::uint64_t lane_sum(std::uint32_t lanes) {
    std::uint64_t cycles = 0;
    for (; lanes > 1; lanes /= 2) cycles += kShuffleLatency + kAluLatency;
    return cycles;
  }
  /// e^x: the factor to base 2, scaling of small arguments before and after the MUFU.
  static constexpr std::uint64_t exponential() { return alu(4) + kMufuLatency; }
  /// a / b in full range (div.full.f32): two scalings, the reciprocal, a product, the scaling back.
  static constexpr std::uint64_t division() { return alu(5) + kMufuLatency; }
  static constexpr std::uint64_t sigmoid() { return exponential() + alu(1) + division(); }
  /// Division of 32-bit integers that are known at run time only: to fp32, reciprocal, back (all on the
  /// MUFU's pipe), then products, remainders and two corrections.
  static constexpr std::uint64_t integer_division() { return 3 * kMufuLatency + alu(13); }
  /// A value goes to the lanes of its warp that need it in another layout: into shared memory, out again.
  std::uint64_t warp_exchange() const { return posted() + shared; }
  /// The same among all threads of a CTA: a barrier between.
  std::uint64_t exchange() const { return warp_exchange() + barrier; }
  /// The same where what lies there must have been read first: another barrier.
  std::uint64_t turn() const { return exchange() + posted() + barrier; }

 private:
  static constexpr std::uint64_t posted() { return static_cast<std::uint64_t>(tile::kPostCycles); }
};

}  // namespace tessera::kernels
