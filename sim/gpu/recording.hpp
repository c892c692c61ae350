#pragma once
// What a kernel's simulation can record besides its result, for timelines.

#include "sim/gpu/hbm/channel_recorder.hpp"
#include "sim/gpu/kernel_run.hpp"
#include "sim/gpu/sm/role_recorder.hpp"

namespace tessera::sim {

struct Recording {
  RoleRecorder roles;        ///< of the first SM
  ChannelRecorder channels;  ///< of the whole HBM
};

/// simulate_kernel, and `recording` besides. The result is the same.
KernelResult simulate_recorded(const GpuSpec& gpu, const models::Operator& op, const KernelOptions& options,
                               Recording& recording);

}  // namespace tessera::sim
