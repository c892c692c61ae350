#pragma once
// How carefully a kernel is sampled, as far as that is known before it runs: by its loops, by the clock's
// freedom, and by how much of a run it takes.

#include "kernels/tile/kernel.hpp"
#include "sim/core/hardware.hpp"
#include "sim/gpu/kernel_run.hpp"
#include "sim/gpu/sampling/trip_window.hpp"

namespace tessera::sim {

struct SamplingPlan {
  TripCount count;
  double window_us = 0;        ///< at first
  bool short_windows = false;  ///< a group of windows goes on until its mean is sure
};

/// `before`: what earlier kernels of the same operator have taken.
SamplingPlan plan_sampling(const tile::LaunchShape& shape, const GpuSpec& gpu, const KernelOptions& options,
                           Time before);

}  // namespace tessera::sim
