#pragma once
// What a GPU's memory system and power supply give, in closed form (equations: docs/cost.md). Bandwidths in
// bytes per microsecond, latencies in SM cycles at the boost clock.

#include "sim/core/hardware.hpp"

namespace tessera::cost {

struct Rates {
  explicit Rates(const GpuSpec& gpu);

  double boost_mhz = 0;
  double l2_hit = 0;    ///< a load's request leaves the SM, to its first data; some of its lines are far
  double l2_miss = 0;   ///< the same from HBM, whose queues are empty
  double store = 0;     ///< data leaves the SM, to the news that the L2 has them
  double gpc_read = 0;  ///< port of one GPC
  double gpc_write = 0;
  double sms_per_port = 0;  ///< of the most crowded GPC: equal work on all SMs ends last there
  double slices = 0;        ///< all L2 slices together
  double look_ups = 0;      ///< of lines, in all of them: one a cycle each
  double hbm_peak = 0;

  /// HBM bandwidth for long runs of which a share `writes` goes to it: refresh, and turning the bus round.
  double hbm(double writes) const;

 private:
  double refresh_share_ = 0;  // of the time
  double group_ = 0;          // accesses of a drained group of writes, without what joins it
  double turnaround_ = 0;     // of one group of writes, in accesses
};

}  // namespace tessera::cost
