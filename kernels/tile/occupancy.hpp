#pragma once

#include "kernels/tile/kernel.hpp"
#include "sim/core/hardware.hpp"

namespace tessera::tile {

/// CTAs of the kernel that an SM holds at a time: threads, registers, shared memory and CTA slots. Throws
/// std::invalid_argument if it cannot hold one.
unsigned resident_ctas(const SmSpec& sm, const LaunchShape& shape);

}  // namespace tessera::tile
