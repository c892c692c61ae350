#include "kernels/gemm/gemm.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "kernels/gemm/estimate.hpp"
#include "kernels/gemm/gemm_ampere.hpp"
#include "kernels/gemm/gemm_hopper.hpp"
#include "kernels/gemm/split_k_reduce.hpp"

namespace tessera::kernels {

namespace {

/// Whether the accumulators fit in the registers that setmaxnreg leaves to a thread of the consumers: 240 of
/// two warpgroups, 160 of three, less about 45 for everything else.
bool accumulators_fit(std::uint32_t tile_m, std::uint32_t tile_n) {
  const std::uint32_t warpgroups = tile_m / 64 == 3 ? 3 : tile_m > 64 ? 2 : 1;
  return tile_m * tile_n < 128 * warpgroups * (warpgroups == 3 ? 116U : 196U);
}

/// As many stages as fit beside the epilogue's staging buffers.
std::uint32_t stages_that_fit(const GemmTiling& t, std::int64_t element_bytes, const GpuSpec& gpu) {
  const std::int64_t stage = std::int64_t{t.tile_m + t.tile_n} * t.tile_k * element_bytes;
  // Two buffers of 64 x 64 for each consumer warpgroup.
  const std::int64_t consumers = t.tile_m / 64 <= 3 ? t.tile_m / 64 : 2;
  const std::int64_t staging = gpu.sm.has_tma ? consumers * 2 * 64 * 64 * 2 : 0;
  return static_cast<std::uint32_t>(std::min<std::int64_t>(
      gpu.sm.has_tma ? 16 : 4, (gpu.sm.shared_bytes_per_cta - staging - 1024) / stage));
}

/// Clusters of cuBLAS's kernels for Hopper (nvjet_..._4x2_...), the smallest first.
struct Cluster {
  std::uint32_t rows, cols;
};
constexpr Cluster kClusters[] = {{1, 1}, {2, 1}, {1, 2}, {4, 1}, {2, 2}, {1, 4}, {4, 2}, {2, 4}};
constexpr std::uint32_t kFirstOfSize[] = {0, 1, 3, 6, 8};  // of 1, 2, 4 and 8 CTAs

/// Calls visit(tiling), without split, for every tile that a library's kernels would have. It says whether a
/// larger cluster of the same tiles might be of use.
template <class Visit>
void for_each_tile(const models::Gemm& g, const GpuSpec& gpu, Visit visit) {
  const std::int64_t element = models::bytes_of(g.dtype);
  if (gpu.architecture != GpuArchitecture::hopper) {
    for (const std::uint32_t tile_m : {64U, 128U, 256U}) {
      for (const std::uint32_t tile_n : {64U, 128U, 256U}) {
        GemmTiling t{.tile_m = tile_m, .tile_n = tile_n, .tile_k = 64};
        t.stages = stages_that_fit(t, element, gpu);
        if (tile_m * tile_n <= 128 * 256 && t.stages >= 2) visit(t);
      }
    }
    return;
  }
  for (const bool transposed : {false, true}) {
    const std::int64_t rows = transposed ? g.n : g.m, cols = transposed ? g.m : g.n;
    // cuBLAS's kernels for few rows of A (nvjet_..._64x8, 64x16, ...) all have W along the 64 rows of wgmma.
    if (!transposed && g.m < 64) continue;
    const auto tiles = [&](std::uint32_t width) { return (cols + width - 1) / width; };
    std::int64_t count = tiles(256);  // of the width at hand
    for (std::uint32_t tile_n = 256, narrower; tile_n >= 8; tile_n = narrower) {
      narrower = tile_n - (tile_n > 128 ? 16 : 8);
      // Of the widths that need the same number of tiles only the least is of use.
      const std::int64_t wider = count;
      if (narrower > 0 && (count = tiles(narrower)) == wider) continue;
      for (const std::uint32_t tile_m : {64U, 128U, 192U, 256U}) {
        if ((tile_m > 64 && tile_m >= rows + 64) || !accumulators_fit(tile_m, tile_n)) continue;
        GemmTiling t{.tile_m = tile_m, .tile_n = tile_n, .tile_k = 64, .transposed = transposed};
        t.stages = stages_that_fit(t, element, gpu);
        bool larger = t.stages >= 2;
        // Profiles of cuBLAS on an H100 show more than two CTAs only with tiles of 64 rows (64x8 to 64x64).
        const std::uint32_t sizes = tile_m == 64 ? 4 : tile_m == 128 ? 3 : 2;
        for (std::uint32_t size = 0; size < sizes && larger; ++size) {
          larger = false;
          for (std::uint32_t i = kFirstOfSize[size]; i < kFirstOfSize[size + 1]; ++i) {
            const Cluster& c = kClusters[i];
            // Slices of shared tiles are of whole groups of 8 rows, which the swizzle in shared memory needs.
            if ((c.rows > 1 && (rows <= tile_m || tile_n % (8 * c.rows) != 0)) ||
                (c.cols > 1 && (cols <= tile_n || rows < tile_m)))
              continue;
            t.cluster = c.rows;
            t.cluster_cols = c.cols;
            larger |= visit(t);
          }
        }
      }
    }
  }
}

}  // namespace

GemmTiling choose_gemm_tiling(const models::Gemm& g, const GpuSpec& gpu) {
  const GemmEstimate estimate{g, gpu};
  GemmTiling best;
  double best_cycles = std::numeric_limits<double>::infinity();
  GemmEstimate::Cta cta{};
  double least_clustered = 0;
  for_each_tile(g, gpu, [&](const GemmTiling& t) {
    const bool alone = t.cluster_ctas() == 1;  // which comes before the clusters of such
    if (alone) cta = estimate.cta(t);
    const GemmEstimate::Tile tile = estimate.tile(cta, t);
    if (alone) least_clustered = tile.least_clustered;
    const bool larger = tile.waits_for_l2 && least_clustered < best_cycles;
    if (tile.least >= best_cycles) return larger;
    for (const std::uint32_t split : {1U, 2U, 3U, 4U, 5U, 6U, 8U, 10U, 12U, 16U}) {
      if (split > 1 &&
          (estimate.least_split(tile) >= best_cycles || g.k < std::int64_t{split} * t.tile_k * 4))
        break;
      const double cycles = estimate.cycles(tile, split, best_cycles);
      if (cycles >= best_cycles) continue;
      best_cycles = cycles;
      best = t;
      best.split_k = split;
    }
    return larger;
  });
  return best;
}

std::vector<std::unique_ptr<tile::Kernel>> make_gemm(const models::Gemm& gemm, const GpuSpec& gpu,
                                                     const Addresses& addresses) {
  return make_gemm(gemm, gpu, addresses, choose_gemm_tiling(gemm, gpu));
}

std::vector<std::unique_ptr<tile::Kernel>> make_gemm(const models::Gemm& gemm, const GpuSpec& gpu,
                                                     const Addresses& addresses, const GemmTiling& tiling) {
  if (gemm.dtype != models::Dtype::bf16 && gemm.dtype != models::Dtype::fp16) {
    throw std::invalid_argument{
        fmt::format("gemm: dtype {} has no tile program; use bf16 or fp16", models::name_of(gemm.dtype))};
  }
  std::vector<std::unique_ptr<tile::Kernel>> kernels;
  if (gpu.sm.has_tma) {
    kernels.push_back(std::make_unique<GemmHopper>(gemm, tiling, gpu, addresses));
  } else {
    kernels.push_back(std::make_unique<GemmAmpere>(gemm, tiling, gpu, addresses));
  }
  if (tiling.split_k > 1)
    kernels.push_back(std::make_unique<SplitKReduce>(gemm, tiling.split_k, gpu, addresses));
  return kernels;
}

}  // namespace tessera::kernels
