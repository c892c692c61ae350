#pragma once
// CUDA microbenchmarks beside the tile programs of microbench.cpp, under the same names: each measures one
// thing.

#include <string>
#include <vector>

#include "kernels/cuda/launch.hpp"

namespace tessera::cuda {

/// What a probe works on, and what its time is divided by.
struct Probe {
  const char* name;
  const char* unit;
  std::int64_t bytes = 0;  ///< of its memory
  double amount = 1;       ///< steps, bytes or results
  bool rate = false;       ///< amount / time, else time / amount
  double unit_scale = 1;
  bool from_cycles = false;  ///< the kernel reads the SM's clock: time in cycles, else that of the launch
  bool needs_hopper = false;
  double least_warm_up_ms = 0;
};
const std::vector<Probe>& probes();

struct ProbeCall {
  void* memory = nullptr;   ///< Probe::bytes of it
  float* cycles = nullptr;  ///< [2]: the result, and where a chase goes on
  int sms = 132;
  std::int64_t in_flight_bytes = 65536;  ///< of each SM, in l2_read and hbm_read
};
/// Writes what the probe's kernel reads: once, before the first launch_probe().
void launch_probe_setup(const std::string& name, const ProbeCall& call, Stream stream);
void launch_probe(const std::string& name, const ProbeCall& call, Stream stream);

}  // namespace tessera::cuda
