#pragma once
// One kernel of a run, simulated once more and recorded, for timelines.

#include "sim/gpu/recording.hpp"
#include "sim/system/kernel_profile.hpp"

namespace tessera::sim {

/// In a process of its own: the caller must not have created a SystemC object yet. std::runtime_error with
/// the kernel's name if that gives nothing.
Recording record_kernel(const KernelJob& job);

}  // namespace tessera::sim
