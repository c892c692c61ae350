#pragma once
// The GPU's front end: launches kernels one after another, hands CTAs to SMs, governs power.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/tile/kernel.hpp"
#include "sim/core/hardware.hpp"
#include "sim/core/module.hpp"
#include "sim/gpu/gpc.hpp"
#include "sim/gpu/kernel_run.hpp"
#include "sim/gpu/messages.hpp"
#include "sim/gpu/trip_sampling.hpp"

namespace tessera::sim {

class FrontEnd : public EventModule<FrontEndEvent> {
 public:
  FrontEnd(sc_core::sc_module_name name, const GpuSpec& gpu, const KernelOptions& options,
           std::vector<Gpc*> gpcs);

  std::vector<Outlet<GpcEvent>> to_gpcs;
  Outlet<L2Event> to_l2;

  /// Launches the kernels in order, the first at time zero. Call once, during elaboration.
  void submit(std::vector<std::unique_ptr<tile::Kernel>> kernels);

  Time completed_at() const { return completed_at_; }
  /// Sum over kernels of first CTA's start to last CTA's end.
  Time execution() const { return execution_; }
  /// Of each kernel, in order.
  const std::vector<Time>& executions() const { return executions_; }
  double dynamic_energy_pj() const { return energy_pj_; }
  /// Mean over the time that kernels executed.
  double mean_clock_mhz() const;
  const std::map<std::string, std::vector<Activity>>& activity() const { return activity_; }
  /// Time in which loop trips were passed over, and half of the 95 % confidence interval of completed_at().
  Time passed() const { return passed_; }
  Time half_width() const { return half_width_; }
  /// L2 bytes of loads in passed trips.
  double passed_loads() const { return passed_loads_; }
  void describe_stuck(std::vector<std::string>& out) const override;

 private:
  struct GpcSlots {
    std::vector<std::vector<std::uint8_t>> free;  // per SM: free slots
  };

  void handle(Time now, const FrontEndEvent& event) override;
  void start_kernel(Time now);
  void dispatch_all(Time at);
  bool dispatch_cluster(Time when, unsigned gpc);
  void cta_done(Time now, const FrontEndEvent& event);
  /// When the next kernel may start, its predecessor having completed at `now`.
  Time next_start(Time now);
  void sample(Time now);
  /// The governor looks after `windows` since `from`, and not before `now`, instead of when it was to.
  void look_after(Time now, Time from, std::uint32_t windows);
  void send_clock(Time now);
  void take_energy(Time now, const FrontEndEvent& event);
  /// Everything about the window that ended at `end` has come in.
  void end_window(Time now, Time end, double window_us);
  /// What the next window's length counts from, once everyone has answered.
  Time window_start(Time now) const {
    return window_us_ != whole_us_ || options_.fixed_clock_mhz > 0 ? window_began_ : now;
  }
  /// Whether the last window has left the clock as it was, and whether windows may be short.
  void watch_clock(double clock_before, double watts);
  void govern(Time now, double window_us, double sm_pj);
  /// Follows the mean power. Whether it has reached the cap is looked at when no trips are passed over.
  void watch_mean(double watts, double window_us);
  void set_clock(Time now, double mhz);
  void start_trips();
  void pass_trips(Time now, const TripSampling::Pass& pass, double window_us);
  void forget_group();
  void warm_l2(Time now, bool warm);

  const GpuSpec& gpu_;
  KernelOptions options_;
  std::vector<Gpc*> gpcs_;
  std::vector<std::unique_ptr<tile::Kernel>> kernels_;
  std::size_t current_ = 0;
  std::vector<GpcSlots> slots_;
  std::uint32_t next_cta_ = 0, ctas_left_ = 0;
  Time kernel_start_, execution_, completed_at_;
  std::vector<Time> executions_;
  bool launched_ahead_ = false;  // the gap before the current kernel has covered its launch
  bool finished_ = false;

  double clock_mhz_;
  double window_us_;           // of the power governor, and of sampling: in the current kernel,
  double whole_us_;            // and at the start of each
  double last_us_ = 0;         // what the last window took, with the time in which everyone answers
  std::uint32_t windows_ = 1;  // in one look: those of a stretch of passed trips are taken together
  std::uint16_t look_ = 0;
  double mean_w_;        // over PowerSpec::average_ms
  bool capped_ = false;  // it has reached the cap
  Time sampled_at_;
  Time window_began_;  // everyone was asked, and answers a little later
  std::size_t energies_missing_ = 0;
  double sm_pj_ = 0, memory_pj_ = 0;  // of the window being collected, at nominal voltage
  double hbm_bytes_ = 0, hbm_read_ = 0, loads_ = 0, passed_window_loads_ = 0;
  TripWindow trips_;  // of the window being collected
  bool sampling_ = false;
  std::uint32_t quiet_windows_ = 0;  // one after another
  double energy_pj_ = 0;
  double clock_time_ = 0, busy_time_ = 0;
  std::map<std::string, std::vector<Activity>> activity_;

  TripSampling trip_sampling_;
  bool measured_window_ = false;                   // the one that has just ended
  double measured_loads_ = 0, measured_read_ = 0;  // L2 bytes loaded, and HBM bytes read meanwhile,
  double measured_moved_ = 0;                      // read and written
  double passed_loads_ = 0;
  bool warming_ = false;    // the L2
  double group_clock_ = 0;  // sum over the measured windows since trips were last passed over
  std::uint32_t group_windows_ = 0;
  double group_energy_ = 0, group_us_ = 0;  // theirs, in W us
  std::vector<TripWindow> group_trips_;  // of each GPC: more SMs to a crossbar port may make its trips longer
  Time passed_, half_width_;
};

}  // namespace tessera::sim
