#pragma once
// Microbenchmarks: kernels that measure one thing, as the published ones on real GPUs do.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/tile/kernel.hpp"
#include "sim/core/hardware.hpp"

namespace tessera::kernels {

struct Microbench {
  std::unique_ptr<tile::Kernel> kernel;
  std::uint64_t warm_address = 0, warm_bytes = 0;  ///< in the L2 when it starts
  /// What it measures is amount / (execution in `per`) or (execution in `per`) / amount.
  double amount = 0;
  enum class Per : std::uint8_t { cycles, seconds } per = Per::cycles;
  bool inverse = false;      ///< a rate, else a time
  bool host_launch = false;  ///< launched from the host, else in a CUDA graph
  bool with_launch = false;  ///< the time is that of the whole launch, else of the kernel's execution

  double value(double execution_seconds, double clock_hz) const {
    const double time = per == Per::cycles ? execution_seconds * clock_hz : execution_seconds;
    return inverse ? amount / time : time / amount;
  }
};

struct MicrobenchKind {
  const char* name;
  const char* unit;
  const char* summary;
  /// How many variants (of one line each) there are, of which the least or the greatest result counts.
  std::uint32_t variants = 1;
  bool greatest = false;
};
const std::vector<MicrobenchKind>& microbench_kinds();

/// `in_flight_bytes`: what each SM keeps in flight in l2_read and hbm_read. `variant`: below the kind's
/// `variants`. Throws std::invalid_argument for a name that is not among microbench_kinds() or that the GPU
/// cannot run.
Microbench make_microbench(const std::string& name, const GpuSpec& gpu, std::int64_t in_flight_bytes = 65536,
                           std::uint32_t variant = 0);

}  // namespace tessera::kernels
