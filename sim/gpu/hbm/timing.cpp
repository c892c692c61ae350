#include "sim/gpu/hbm/timing.hpp"

#include <cmath>

namespace tessera::sim {

HbmTiming::HbmTiming(const HbmSpec& s) {
  const auto cycles = [&](double ns) { return static_cast<Cycle>(std::ceil(ns / s.tck_ns - 1e-9)); };
  ck = Time::from_ns(s.tck_ns);
  bl = s.nbl_ck;
  ccd_s = s.nccd_s_ck;
  ccd_l = s.nccd_l_ck;
  ccd_r = s.nccd_r_ck;
  rrd_s = s.nrrd_s_ck;
  rrd_l = s.nrrd_l_ck;
  rtp = s.nrtp_ck;
  rtw = s.nrtw_ck;
  cl = cycles(s.tcl_ns);
  cwl = cycles(s.tcwl_ns);
  wtr_s = cwl + bl + s.nwtr_s_ck;  // write command to read command
  wtr_l = cwl + bl + s.nwtr_l_ck;
  rcd_rd = cycles(s.trcd_rd_ns);
  rcd_wr = cycles(s.trcd_wr_ns);
  rp = cycles(s.trp_ns);
  ras = cycles(s.tras_ns);
  rc = cycles(s.trc_ns);
  wr = cwl + bl + cycles(s.twr_ns);  // write command to precharge
  faw = cycles(s.tfaw_ns);
  ppd = s.nppd_ck;
  rrefd = s.nrrefd_ck;
  rfc = cycles(s.per_bank_refresh ? s.trfc_pb_ns : s.trfc_ab_ns);
  const int banks = s.stack_ids * s.bank_groups * s.banks_per_group;
  refi = static_cast<Cycle>(s.trefi_ns / (s.per_bank_refresh ? banks : 1) / s.tck_ns);
}

}  // namespace tessera::sim
