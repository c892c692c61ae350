#pragma once
// The GPU's front end: launches kernels one after another and hands their CTAs to SMs. Time is cut into
// windows, after each of which everyone tells what it did: by that the governor sets the clock, and sampling
// says whether loop trips are passed over from then on.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/tile/kernel.hpp"
#include "sim/core/hardware.hpp"
#include "sim/core/module.hpp"
#include "sim/gpu/cta_scheduler.hpp"
#include "sim/gpu/gpc.hpp"
#include "sim/gpu/kernel_run.hpp"
#include "sim/gpu/messages.hpp"
#include "sim/gpu/power_governor.hpp"
#include "sim/gpu/sampling/measured_windows.hpp"
#include "sim/gpu/sampling/trip_sampling.hpp"

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
  /// L2 bytes of loads in passed trips, of each kernel.
  const std::vector<double>& passed_loads() const { return passed_loads_; }
  void describe_stuck(std::vector<std::string>& out) const override;

 private:
  void handle(Time now, const FrontEndEvent& event) override;
  void start_kernel(Time now);
  /// When the next kernel may start, its predecessor having completed at `now`.
  Time next_start(Time now);
  bool dispatch_cluster(Time when, unsigned gpc);
  void cta_done(Time now, const FrontEndEvent& event);
  /// The last CTA of a kernel has exited.
  void kernel_done(Time now, Time exited);

  // A window: everyone is asked at its end (ask), and when the last has answered (take_answer), end_window.
  void ask(Time now);
  void take_answer(Time now, const FrontEndEvent& event);
  void end_window(Time now, Time end);
  /// Everyone is asked again after `windows` since `from`, and not before `now`, instead of when they were to
  /// be.
  void look_after(Time now, Time from, std::uint32_t windows);
  /// What the next window's length counts from, once everyone has answered.
  Time window_start(Time now) const { return short_windows() || governor_.fixed() ? window_began_ : now; }
  bool short_windows() const { return window_us_ != whole_us_; }
  /// Takes note of the window that has just ended, for what passed trips stand for, the result and timelines.
  void book_window(Time end);
  /// Whether nothing has moved for so long that nothing will.
  bool stuck();
  /// Finds the clock, and how long windows are from now on. Whether the power cap has come or gone.
  bool govern(Time now, double watts);
  void send_clock(Time now);
  void pass_trips(Time now, const TripSampling::Pass& pass);
  void warm_l2(Time now, bool warm);

  const GpuSpec& gpu_;
  KernelOptions options_;
  std::vector<Gpc*> gpcs_;
  std::vector<std::unique_ptr<tile::Kernel>> kernels_;
  std::size_t current_ = 0;
  CtaScheduler ctas_;
  std::uint32_t ctas_left_ = 0;
  Time kernel_start_, execution_, completed_at_;
  std::vector<Time> executions_;
  bool launched_ahead_ = false;  // the gap before the current kernel has covered its launch
  bool finished_ = false;

  double window_us_;           // of the governor, and of sampling: in the current kernel,
  double whole_us_;            // and at the start of each
  double last_us_ = 0;         // what the last window took, with the time in which everyone answers
  std::uint32_t windows_ = 1;  // in one look: those of a stretch of passed trips are taken together
  std::uint16_t look_ = 0;
  bool looking_ = false;
  Time window_began_;  // everyone was asked, and answers a little later
  Time sampled_at_;    // the end of the window before
  std::size_t answers_missing_ = 0;
  std::uint32_t quiet_windows_ = 0;  // one after another
  // Of the window that is being collected.
  bool measured_ = false;
  WindowEnergy energy_;
  WindowTraffic traffic_;
  double passed_loads_in_window_ = 0;
  TripWindow trips_;

  PowerGovernor governor_;
  TripSampling trip_sampling_;
  MeasuredWindows seen_;
  bool warming_ = false;  // the L2

  double energy_pj_ = 0;
  double clock_time_ = 0, busy_time_ = 0;
  std::map<std::string, std::vector<Activity>> activity_;
  std::vector<double> passed_loads_;
  std::size_t passing_ = 0;  // the kernel whose trips were passed over last: its last window may end after it
  Time passed_, half_width_;
};

}  // namespace tessera::sim
