#pragma once
// An HBM generation's timings in cycles of the command clock, on whose edges all commands lie.

#include <cstdint>

#include "sim/core/hardware.hpp"
#include "sim/core/time.hpp"

namespace tessera::sim {

/// Of the HBM's command clock.
using Cycle = std::int64_t;

/// JEDEC's names without the t or n. Limits in nanoseconds round up to whole cycles.
struct HbmTiming {
  explicit HbmTiming(const HbmSpec& spec);

  Time ck;  ///< one cycle
  Cycle bl, ccd_s, ccd_l, ccd_r, rrd_s, rrd_l, rtp, rtw, cl, cwl, wtr_s, wtr_l, rcd_rd, rcd_wr, rp, ras, rc,
      wr, faw, ppd, rrefd;
  Cycle rfc;   ///< of one refresh command: a bank's, or all banks'
  Cycle refi;  ///< between refresh commands to a pseudo-channel
};

}  // namespace tessera::sim
