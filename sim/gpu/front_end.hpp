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

namespace tessera::sim {

/// CTAs of that shape that fit on one SM, by threads, registers, shared memory and CTA slots. Throws
/// std::invalid_argument naming the resource if none does.
unsigned resident_ctas(const SmSpec& sm, const tile::LaunchShape& shape);

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
  double dynamic_energy_pj() const { return energy_pj_; }
  /// Mean over the time that kernels executed.
  double mean_clock_mhz() const;
  const std::map<std::string, std::vector<Activity>>& activity() const { return activity_; }
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
  void send_clock(Time now);
  void take_energy(Time now, const FrontEndEvent& event);

  const GpuSpec& gpu_;
  KernelOptions options_;
  std::vector<Gpc*> gpcs_;
  std::vector<std::unique_ptr<tile::Kernel>> kernels_;
  std::size_t current_ = 0;
  std::vector<GpcSlots> slots_;
  std::uint32_t next_cta_ = 0, ctas_left_ = 0;
  Time kernel_start_, last_exit_, execution_, completed_at_;
  bool launched_ahead_ = false;  // the gap before the current kernel has covered its launch
  bool finished_ = false;

  double clock_mhz_;
  Time sampled_at_;
  std::size_t energies_missing_ = 0;
  double sm_pj_ = 0, memory_pj_ = 0;  // of the window being collected, at nominal voltage
  bool sampling_ = false;
  double energy_pj_ = 0;
  double clock_time_ = 0, busy_time_ = 0;
  std::map<std::string, std::vector<Activity>> activity_;
};

}  // namespace tessera::sim
