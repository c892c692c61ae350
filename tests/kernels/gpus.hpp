#pragma once
// GPUs and operand addresses for tests of kernels.

#include <cstddef>
#include <cstdint>

#include "kernels/library/lower.hpp"
#include "models/operators/operator.hpp"
#include "sim/core/hardware.hpp"

namespace tessera::tile::testing {

inline GpuSpec hopper() {
  GpuSpec g;
  g.gpc_sms = {16, 16, 16, 16, 16, 16, 18, 18};
  return g;
}
inline GpuSpec ampere() {
  GpuSpec g = hopper();
  g.architecture = GpuArchitecture::ampere;
  g.sm.has_tma = false;
  g.sm.tensor_flops_per_cycle = g.sm.mma_flops_per_cycle = 2048;
  g.sm.shared_bytes = 167936;
  g.sm.shared_bytes_per_cta = 166912;
  return g;
}

/// Between operands, and before the workspace.
inline constexpr std::uint64_t kStride = 1ULL << 32U;
inline kernels::Addresses addresses_for(const models::Operator& op) {
  kernels::Addresses a;
  const std::size_t n = models::operands_of(op).size();
  for (std::size_t i = 0; i < n; ++i) a.operands.push_back((i + 1) * kStride);
  a.workspace = (n + 1) * kStride;
  return a;
}

}  // namespace tessera::tile::testing
