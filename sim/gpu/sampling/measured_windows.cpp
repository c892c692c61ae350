#include "sim/gpu/sampling/measured_windows.hpp"

namespace tessera::sim {

void MeasuredWindows::start_kernel() {
  end_group();
  traffic_ = {};
}

void MeasuredWindows::begin_pass() {
  end_group();
  standing_ = traffic_;
}

void MeasuredWindows::add_traffic(const WindowTraffic& traffic) {
  traffic_.loads += traffic.loads;
  traffic_.hbm_read += traffic.hbm_read;
  traffic_.hbm += traffic.hbm;
}

void MeasuredWindows::add(double clock_mhz, double watts, double us) {
  if (ended_) begin_group();
  clocks_ += clock_mhz;
  ++windows_;
  energy_ += watts * us;
  us_ += us;
}

void MeasuredWindows::add_trips(std::size_t gpc, const TripWindow& trips) {
  if (ended_) begin_group();
  trips_of_gpc_[gpc] += trips;
}

void MeasuredWindows::begin_group() {
  ended_ = false;
  clocks_ = energy_ = us_ = 0;
  windows_ = 0;
  trips_of_gpc_.assign(trips_of_gpc_.size(), {});
}

double MeasuredWindows::longer_in(std::size_t gpc) const {
  TripWindow all;
  for (const TripWindow& t : trips_of_gpc_) all += t;
  const TripWindow& own = trips_of_gpc_[gpc];
  return own.timed == 0 ? 1.0 : own.mean_us() / all.mean_us();
}

}  // namespace tessera::sim
