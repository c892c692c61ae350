#pragma once
// One operator on one simulated GPU, start to finish.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/tile/kernel.hpp"
#include "models/operators/operator.hpp"
#include "sim/core/hardware.hpp"
#include "sim/core/time.hpp"

namespace tessera::sim {

struct KernelOptions {
  bool graph = true;  ///< launched inside a CUDA graph, else from the host
  /// Simulate every trip of every loop. Else long kernels are sampled: see docs/skipping.md.
  bool exact = false;
  bool random_data = true;  ///< operands switch at random (power); false: all zeros
  /// SM clock that the kernel keeps: that of replays, whose power is not one kernel's. 0: it starts at boost,
  /// on a part that was idle, and the governor sets the clock.
  double fixed_clock_mhz = 0;
  /// Of the time of the run that it is part of, roughly: a kernel that takes little of it is sampled less.
  double share = 1;
  unsigned threads = 1;  ///< that run the modules of the GPU; the result is the same with any number
  /// Operands (indices into operands_of) that lie in the L2 when the kernel starts, least recently used
  /// first; only what fits stays.
  std::vector<std::uint32_t> warm_operands;
  /// The same kernel has just run: what it wrote is still dirty in the L2, as far as it fits.
  bool replayed = false;
  /// If replayed: launches since the part was idle, before those that count and of those. None that count: it
  /// is replayed without end.
  std::uint32_t launches_before = 0, launches_counted = 0;
};

/// A stretch of a resource's activity, for timelines: share in 0..1 of the resource over [start, end).
struct Activity {
  Time start, end;
  double share = 0;
};

/// Of a sampled kernel (`passed` > 0), what SMs did is that of the whole kernel; HBM and L2 traffic of the
/// passed trips is extrapolated from measured windows; the statistics of the HBM itself (`hbm.*`), `events`,
/// and the conservation laws that were checked are those of what was simulated.
struct KernelResult {
  Time latency;             ///< launch overhead included: what back-to-back replay would measure
  Time execution;           ///< first CTA's start to the last CTA's end
  Time passed;              ///< of it, the time in which loop trips were passed over
  double ci95_percent = 0;  ///< half of the 95 % confidence interval of `latency`, in percent of it
  double clock_mhz = 0;     ///< mean SM clock (the power cap may lower it)
  double cycles = 0;        ///< SM cycles of `latency` at that clock
  double flops = 0;
  std::string bottleneck;  ///< "tensor cores", "MUFU", "shared memory", "L2 bandwidth", "HBM bandwidth",
                           ///< "latency", "launch"
  /// Share of the resource's peak over `execution`: "tensor", "fp32", "mufu", "shared", "l2", "hbm", "issue".
  std::map<std::string, double> utilization;
  std::int64_t l2_bytes = 0;  ///< between SMs and L2, both directions
  std::int64_t hbm_read_bytes = 0, hbm_write_bytes = 0;
  double l2_hit_rate = 0;
  double energy_j = 0;
  std::uint64_t events = 0;
  std::uint64_t operations = 0;              ///< tile operations retired
  std::vector<std::string> kernels;          ///< names of the kernels that ran
  std::vector<Time> executions;              ///< of each of them
  std::map<std::string, double> statistics;  ///< every counter of the simulation
  std::map<std::string, std::vector<Activity>>
      activity;  ///< per track ("GPC 0", ..., "HBM"), by power window
};

/// Simulates `op` on one GPU in cycle detail. One call per process (SystemC); throws std::invalid_argument
/// for impossible shapes, DeadlockError and ConservationError.
KernelResult simulate_kernel(const GpuSpec& gpu, const models::Operator& op, const KernelOptions& options);

/// A range of device addresses.
struct AddressRange {
  std::uint64_t address = 0, bytes = 0;
  bool dirty = false;
};

/// The same for kernels given as such; `cached` lies in the L2 when the first one starts, least recently used
/// first.
KernelResult simulate_launches(const GpuSpec& gpu, std::vector<std::unique_ptr<tile::Kernel>> launches,
                               const std::vector<AddressRange>& cached, double flops,
                               const KernelOptions& options);

}  // namespace tessera::sim
