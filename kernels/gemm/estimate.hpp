#pragma once
// How long a tiling of a GEMM takes, in closed form: what a library's heuristic knows when it picks a kernel.

#include "kernels/gemm/gemm.hpp"

namespace tessera::kernels {

/// Estimated SM cycles at the boost clock, from the first CTA's start to the last one's end; the launch and the
/// kernel that adds up split partials included, as far as tilings differ in them.
double estimate_cycles(const models::Gemm& gemm, const GpuSpec& gpu, const GemmTiling& tiling);

}  // namespace tessera::kernels
