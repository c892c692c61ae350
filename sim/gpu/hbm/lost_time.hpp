#pragma once
// Where the time of a pseudo-channel's data bus went, told from its commands.

#include <vector>

#include "sim/gpu/hbm/pseudo_channel.hpp"
#include "sim/gpu/hbm/timing.hpp"

namespace tessera::sim {

/// Shares of the time. A gap on the column bus counts for what the access that ends it waited for: first the
/// turnaround, then a refresh of its bank, then its row (tRCD, tRP, tRC, tRRD, tFAW), then its bank group
/// (tCCD_L); what is left is lack of requests, or the order in which they were taken.
struct HbmLostTime {
  double data = 0;  ///< the bus moved data
  double turnaround = 0, refresh = 0, rows = 0, bank_groups = 0, other = 0;
};

/// `commands` in the order of time; `end` is the end of the last beat of data.
HbmLostTime lost_time(const HbmSpec& spec, const HbmTiming& timing, const std::vector<HbmCommand>& commands,
                      Cycle end);

}  // namespace tessera::sim
