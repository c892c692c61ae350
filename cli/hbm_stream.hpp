#pragma once
// tessera kernel hbm_stream: the HBM alone, driven by a stream of addresses.

#include <string>

#include "cli/kernel_arguments.hpp"
#include "sim/core/hardware.hpp"

namespace tessera::cli {

/// Runs request.hbm_stream and prints the result, as JSON to `json` (a file, or "-") if it is not empty.
void run_hbm_stream_command(const KernelRequest& request, const GpuSpec& gpu, const std::string& json);

}  // namespace tessera::cli
