#pragma once
// The power governor at work: the SM clock, window by window, under the peak power and the cap on the mean
// power (sim/core/power.hpp).

#include "sim/core/hardware.hpp"

namespace tessera::sim {

/// Dynamic energy of one window.
struct WindowEnergy {
  double us = 0;
  double sm_pj = 0;      ///< of SMs and L2, at nominal voltage
  double memory_pj = 0;  ///< in domains whose voltage does not follow the SM clock
};

class PowerGovernor {
 public:
  /// `fixed_clock_mhz`: kept whatever is drawn; 0: the part was idle and starts at boost.
  PowerGovernor(const GpuSpec& gpu, double fixed_clock_mhz);

  bool fixed() const { return fixed_; }
  double clock_mhz() const { return clock_mhz_; }
  /// Runs at a clock that was found before.
  void set_clock(double mhz) { clock_mhz_ = mhz; }
  /// Dynamic energy and power of a window that ran at clock_mhz().
  double dynamic_pj(const WindowEnergy& window) const;
  double watts(const WindowEnergy& window) const;

  /// A window of `us` drew `watts`.
  void follow_mean(double watts, double us);
  /// Whether the mean has reached the cap, and has not fallen well below it again; as of the last look.
  bool capped() const { return capped_; }
  void look_at_cap();
  /// The clock at which the same work stays within the power that may be drawn.
  void find_clock(const WindowEnergy& window);
  /// The clock has no reason to change: it is at boost, with power below the cap.
  bool free(double watts) const;
  /// For how long `watts` may be drawn from `now_us` on, as work that is not looked at, until the cap would
  /// change the clock: without end where it does not.
  double unwatched_us(double watts, double now_us) const;

 private:
  const GpuSpec& gpu_;
  bool fixed_;
  double clock_mhz_;
  double mean_w_;  // over PowerSpec::average_ms
  bool capped_ = false;
};

}  // namespace tessera::sim
