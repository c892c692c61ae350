#pragma once
// An mbarrier: a phase completes when its arrivals and its expected bytes have all come in.

#include <cstdint>

#include "sim/core/time.hpp"

namespace tessera::sim {

class Mbarrier {
 public:
  explicit Mbarrier(std::uint32_t arrivals) : arrivals_{arrivals}, pending_{arrivals} {}

  /// Whether the phase of that parity has completed (mbarrier.try_wait.parity).
  bool passed(unsigned parity) const { return (phase_ & 1U) != parity; }
  /// When the last completed phase completed. Arrivals may be booked ahead of time, so this may lie in
  /// the future.
  Time completed_at() const { return completed_at_; }

  /// Books an arrival, `expected` bytes to come, and `received` bytes that came, all effective at `at`.
  /// Returns true if this completes the phase.
  bool book(Time at, std::uint32_t arrivals, std::int64_t expected, std::int64_t received) {
    pending_ -= arrivals;
    bytes_ += expected - received;
    latest_ = max(latest_, at);
    if (pending_ != 0 || bytes_ != 0) return false;
    ++phase_;
    pending_ = arrivals_;
    completed_at_ = latest_;
    latest_ = Time{};
    return true;
  }

  /// What is booked for later than `at` happens `by` later.
  void delay(Time at, Time by) {
    if (completed_at_ > at) completed_at_ += by;
    if (latest_ > at) latest_ += by;
  }

  std::uint32_t pending_arrivals() const { return pending_; }
  std::int64_t missing_bytes() const { return bytes_; }
  std::uint32_t phase() const { return phase_; }

  std::uint16_t waiting = 0;  ///< roles blocked on the current phase, one bit each

 private:
  std::uint32_t arrivals_;
  std::uint32_t pending_;
  std::int64_t bytes_ = 0;
  std::uint32_t phase_ = 0;
  Time latest_;
  Time completed_at_;
};

}  // namespace tessera::sim
