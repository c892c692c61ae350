#include "models/cost/rates.hpp"

#include <algorithm>

namespace tessera::cost {

Rates::Rates(const GpuSpec& gpu) : boost_mhz{gpu.boost_clock_mhz} {
  const HbmSpec& h = gpu.hbm;
  const double cycles_per_ns = gpu.boost_clock_mhz * 1e-3;
  l2_hit = gpu.l2.hit_latency + (gpu.l2.partitions > 1 ? gpu.l2.far_latency : 0);
  const double run_ns = 256.0 / static_cast<double>(h.access_bytes) * h.nccd_s_ck * h.tck_ns;
  l2_miss = l2_hit + (h.l2_to_hbm_ns + h.trcd_rd_ns + h.tcl_ns + run_ns + h.hbm_to_l2_ns) * cycles_per_ns;
  store = gpu.l2.hit_latency * 2 / 3;
  gpc_read = gpu.l2.gpc_bytes_per_cycle * gpu.l2.clock_mhz;
  gpc_write = gpu.l2.gpc_write_bytes_per_cycle * gpu.l2.clock_mhz;
  sms_per_port = gpu.gpc_sms.empty() ? 1 : *std::max_element(gpu.gpc_sms.begin(), gpu.gpc_sms.end());
  slices = gpu.l2.slices * gpu.l2.slice_bytes_per_cycle * gpu.l2.clock_mhz;
  look_ups = gpu.l2.slices * gpu.l2.clock_mhz;
  hbm_peak = h.peak_bytes_per_us();
  // All banks at once: nothing moves from the last access before the refresh to the first after it.
  const double ccd = h.nccd_s_ck * h.tck_ns;
  if (!h.per_bank_refresh)
    refresh_share_ = (h.nrtp_ck * h.tck_ns + h.trp_ns + h.trfc_ab_ns + h.trcd_rd_ns - ccd) / h.trefi_ns;
  group_ = static_cast<double>(h.write_drain_high - h.write_drain_low) * 256.0 /
           static_cast<double>(h.access_bytes);
  turnaround_ =
      std::max(0.0, (h.nrtw_ck * h.tck_ns + h.tcwl_ns + (h.nbl_ck + h.nwtr_s_ck) * h.tck_ns) / ccd - 2);
}

double Rates::hbm(double writes) const {
  double bandwidth = hbm_peak * (1 - refresh_share_);
  if (writes > 0 && writes < 1) {
    // Writes that come meanwhile join the group; reads make up the rest of the time between two groups.
    const double accesses = group_ / (1 - writes) / writes;
    bandwidth *= accesses / (accesses + turnaround_);
  }
  return bandwidth;
}

}  // namespace tessera::cost
