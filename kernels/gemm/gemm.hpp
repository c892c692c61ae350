#pragma once
// Dense GEMM, C[m,n] = A[m,k] W[n,k]^T, as a tuned library runs it.
//
// Hopper: persistent, warp-specialised: one producer warp keeps a ring of A and W tiles filled by TMA, one
// consumer warpgroup per 64 rows of the tile multiplies them with wgmma (CUTLASS calls this "cooperative").
// CTAs of a cluster share tiles of A and W by multicast (cuBLAS's clusters: 1x1 to 4x2, in its kernels'
// names). Ampere: cp.async ring and mma.sync. Where the grid would leave SMs idle, K is split and a second
// kernel adds the fp32 partial sums.

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/library/lower.hpp"

namespace tessera::kernels {

/// How one GEMM is cut into tiles.
struct GemmTiling {
  std::uint32_t tile_m = 128, tile_n = 256, tile_k = 64;
  std::uint32_t cluster = 1;       ///< CTAs along tile_m's direction that share the other operand's tiles
  std::uint32_t cluster_cols = 1;  ///< the same along tile_n's; a cluster has both, one times the other
  std::uint32_t split_k = 1;
  std::uint32_t stages = 4;
  /// Computes C^T = W A^T: tile_m, the 64-row direction of wgmma, runs along n, and tile_n, which wgmma takes
  /// in steps of 8, along m. What libraries do when m is small or fits no multiple of 64.
  bool transposed = false;

  std::uint32_t cluster_ctas() const { return cluster * cluster_cols; }
};

/// The tiling a library's heuristic would choose: the one with the least estimated cycles, where a k-step
/// costs the most loaded of tensor cores, shared memory and L2 bandwidth, and waves are whole.
GemmTiling choose_gemm_tiling(const models::Gemm& gemm, const GpuSpec& gpu);

std::vector<std::unique_ptr<tile::Kernel>> make_gemm(const models::Gemm& gemm, const GpuSpec& gpu,
                                                     const Addresses& addresses);
/// The same with a given tiling. Throws std::invalid_argument if it does not fit the GPU.
std::vector<std::unique_ptr<tile::Kernel>> make_gemm(const models::Gemm& gemm, const GpuSpec& gpu,
                                                     const Addresses& addresses, const GemmTiling& tiling);

}  // namespace tessera::kernels
