#pragma once
// How long a tiling of a GEMM takes, in closed form: what a library's heuristic knows when it picks a kernel.

#include "kernels/gemm/gemm.hpp"

namespace tessera::kernels {

/// One GEMM on one GPU: what all tilings share is worked out once. SM cycles at the boost clock, from the
/// first CTA's start to the last one's end; the launch and the kernel that adds up split partials included,
/// as far as tilings differ in them.
class GemmEstimate {
 public:
  GemmEstimate(const models::Gemm& gemm, const GpuSpec& gpu);

  /// Fills in what does not depend on the split.
  struct Tile {
    GemmTiling tiling;
    double tiles, slots, step, gap, step_bytes, k_steps, epilogue, tile_out;
    double least;  ///< no split of this tile takes fewer cycles
  };
  Tile tile(const GemmTiling& tiling) const;
  double cycles(const Tile& tile, std::uint32_t split_k) const;
  /// With all SMs at work the L2, and not the HBM, sets the pace: larger clusters would help.
  bool waits_for_l2(const Tile& tile) const;

 private:
  models::Gemm gemm_;
  const SmSpec& sm_;
  double element_, m_, n_, k_;
  double slots_[4];  // CTAs at a time, in clusters of 1, 2, 4 and 8
  double l2_bytes_per_cycle_, write_bytes_per_cycle_;
  double load_latency_, hbm_cycles_, reduce_launch_, l2_hit_;
};

double estimate_cycles(const models::Gemm& gemm, const GpuSpec& gpu, const GemmTiling& tiling);

}  // namespace tessera::kernels
