#pragma once
// How long a tiling of a GEMM takes, in closed form: what a library's heuristic knows when it picks a kernel.

#include <limits>

#include "kernels/gemm/gemm.hpp"

namespace tessera::kernels {

/// One GEMM on one GPU: what all tilings share is worked out once. SM cycles at the boost clock, from the
/// first CTA's start to the last one's end; the launch and the kernel that adds up split partials included,
/// as far as tilings differ in them.
class GemmEstimate {
 public:
  GemmEstimate(const models::Gemm& gemm, const GpuSpec& gpu);

  /// What a tile has whatever cluster its CTA belongs to.
  struct Cta {
    double row_tiles, col_tiles;  ///< that cover the result
    double k_steps, busy, gap;    ///< cycles of a step: of the most loaded pipe; between two
    double wait, wait_clustered;  ///< cycles of a step if only the ring's latency counts
    double x_bytes, y_bytes;      ///< of a step
    double tile_out;              ///< elements
  };
  Cta cta(const GemmTiling& tiling) const;
  /// What does not depend on the split.
  struct Tile {
    double tiles, slots, step, gap, step_bytes, k_steps, tile_out, fill, epilogue;
    double least;            ///< no split of this tile takes fewer cycles
    double least_clustered;  ///< of a cluster of one: nor of any larger one, which only loads less
    bool waits_for_l2;       ///< with all SMs at work the L2, and not the HBM, sets the pace: larger clusters
                             ///< would help
  };
  Tile tile(const Cta& cta, const GemmTiling& tiling) const;
  /// If it takes at least `limit` cycles: some number from `limit` up to them.
  double cycles(const Tile& tile, std::uint32_t split_k,
                double limit = std::numeric_limits<double>::infinity()) const;
  /// No other split than 1 takes fewer cycles.
  double least_split(const Tile& tile) const { return tile.least + reduce_launch_; }

 private:
  double epilogue(double elements, double bytes) const { return 300 + elements * bytes * epilogue_per_byte_; }

  models::Gemm gemm_;
  const SmSpec& sm_;
  double element_, m_, n_, k_;
  double slots_[5] = {};  // CTAs at a time, by the bits of the cluster's size: 1, 2, 4 and 8
  double l2_bytes_per_cycle_, write_bytes_per_cycle_;
  double load_latency_, hbm_cycles_, write_cycles_, reduce_launch_, l2_hit_, epilogue_per_byte_;
};

double estimate_cycles(const models::Gemm& gemm, const GpuSpec& gpu, const GemmTiling& tiling);

}  // namespace tessera::kernels
