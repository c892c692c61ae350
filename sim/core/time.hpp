#pragma once
// Simulated time, in integer femtoseconds, and the clocks that divide it.
//
// 64-bit femtoseconds reach 2.5 hours: long enough for a WAN run, fine enough that a 1980 MHz clock
// period (505,050.5 fs) is rounded by one part in a million.

#include <cmath>
#include <compare>
#include <cstdint>
#include <limits>

namespace tessera {

/// A point in, or span of, simulated time.
struct Time {
  std::int64_t fs = 0;

  static constexpr Time femtoseconds(std::int64_t n) { return Time{n}; }
  static constexpr Time picoseconds(std::int64_t n) { return Time{n * 1'000}; }
  static constexpr Time nanoseconds(std::int64_t n) { return Time{n * 1'000'000}; }
  static constexpr Time microseconds(std::int64_t n) { return Time{n * 1'000'000'000}; }
  static constexpr Time milliseconds(std::int64_t n) { return Time{n * 1'000'000'000'000}; }
  /// Rounds to the nearest femtosecond.
  static Time from_ns(double ns) { return Time{std::llround(ns * 1e6)}; }
  static Time from_us(double us) { return Time{std::llround(us * 1e9)}; }
  static constexpr Time never() { return Time{std::numeric_limits<std::int64_t>::max()}; }

  constexpr double ns() const { return static_cast<double>(fs) * 1e-6; }
  constexpr double us() const { return static_cast<double>(fs) * 1e-9; }
  constexpr double seconds() const { return static_cast<double>(fs) * 1e-15; }

  constexpr auto operator<=>(const Time&) const = default;
  constexpr Time& operator+=(Time o) {
    fs += o.fs;
    return *this;
  }
  constexpr Time& operator-=(Time o) {
    fs -= o.fs;
    return *this;
  }
  friend constexpr Time operator+(Time a, Time b) { return Time{a.fs + b.fs}; }
  friend constexpr Time operator-(Time a, Time b) { return Time{a.fs - b.fs}; }
  friend constexpr Time operator*(Time a, std::int64_t n) { return Time{a.fs * n}; }
  friend constexpr Time operator*(std::int64_t n, Time a) { return Time{a.fs * n}; }
};

constexpr Time max(Time a, Time b) { return a < b ? b : a; }
constexpr Time min(Time a, Time b) { return b < a ? b : a; }

/// A clock domain: converts cycle counts to time. The period is rounded to a femtosecond.
class Clock {
 public:
  constexpr Clock() = default;
  static Clock mhz(double f) { return Clock{Time{std::llround(1e9 / f)}}; }
  constexpr Time period() const { return period_; }
  double mhz() const { return 1e9 / static_cast<double>(period_.fs); }
  constexpr Time cycles(std::int64_t n) const { return period_ * n; }
  /// The span of a fractional number of cycles, rounded up to a femtosecond.
  Time cycles_f(double n) const {
    return Time{static_cast<std::int64_t>(std::ceil(n * static_cast<double>(period_.fs)))};
  }
  constexpr double in_cycles(Time t) const {
    return static_cast<double>(t.fs) / static_cast<double>(period_.fs);
  }

 private:
  constexpr explicit Clock(Time period) : period_{period} {}
  Time period_{1'000'000};
};

/// The time to move `bytes` at `gb_per_s` (10^9 bytes per second), rounded up to a femtosecond.
inline Time transfer_time(std::int64_t bytes, double gb_per_s) {
  return Time{static_cast<std::int64_t>(std::ceil(static_cast<double>(bytes) * 1e6 / gb_per_s))};
}

}  // namespace tessera
