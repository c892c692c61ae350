#pragma once
// What measured windows say, besides the trips' mean time, of the passed ones that they stand for.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sim/gpu/sampling/trip_window.hpp"

namespace tessera::sim {

/// Bytes that crossed memory interfaces in one window.
struct WindowTraffic {
  double loads = 0;     ///< asked of the L2 by SMs
  double hbm_read = 0;  ///< read from HBM
  double hbm = 0;       ///< read from it and written to it
};

class MeasuredWindows {
 public:
  explicit MeasuredWindows(std::size_t gpcs) : trips_of_gpc_(gpcs) {}

  /// Of a measured window of `us`: what moved in it, the trips in it of one GPC, its clock and mean power.
  void add_traffic(const WindowTraffic& traffic);
  void add_trips(std::size_t gpc, const TripWindow& trips);
  void add(double clock_mhz, double watts, double us);
  /// What is measured from now on stands for other passed trips. Until then the group stays as it is.
  void end_group() { ended_ = true; }
  /// The same, and the traffic is another kernel's.
  void start_kernel();
  /// Trips are passed over from now on, for which the kernel's traffic so far stands.
  void begin_pass();

  /// Nothing has been measured since the last group ended.
  bool empty() const { return ended_ || windows_ == 0; }
  // Of the group that goes on, or ended last.
  double clock_mhz() const { return clocks_ / windows_; }
  double watts() const { return energy_ / us_; }
  /// How much longer a trip takes in that GPC than in all: more SMs may share its crossbar port.
  double longer_in(std::size_t gpc) const;

  // Of all measured windows of the kernel: bytes.
  double loads() const { return traffic_.loads; }
  double hbm_read() const { return traffic_.hbm_read; }
  /// What passed trips that load so much move to and from HBM.
  double hbm_bytes_of(double passed_loads) const {
    return standing_.loads > 0 ? passed_loads * standing_.hbm / standing_.loads : 0;
  }

 private:
  void begin_group();

  bool ended_ = false;
  double clocks_ = 0;
  std::uint32_t windows_ = 0;
  double energy_ = 0, us_ = 0;  // W us
  std::vector<TripWindow> trips_of_gpc_;
  WindowTraffic traffic_, standing_;  // so far; when trips were passed over last
};

}  // namespace tessera::sim
