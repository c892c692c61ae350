#pragma once
// What a pipe counts time in: Time in the cycle model, cycles as double in the cost model.

#include <concepts>
#include <cstdint>

#include "sim/core/time.hpp"

namespace tessera {

template <class T>
concept Duration = std::same_as<T, Time> || std::same_as<T, double>;

inline Time times(Time t, std::uint64_t n) { return t * static_cast<std::int64_t>(n); }
inline double times(double t, std::uint64_t n) { return t * static_cast<double>(n); }
/// An n-th.
inline Time part(Time t, std::uint64_t n) { return Time{t.fs / static_cast<std::int64_t>(n)}; }
inline double part(double t, std::uint64_t n) { return t / static_cast<double>(n); }
/// How often `each` fits into `span`.
inline std::uint64_t fit(Time span, Time each) { return static_cast<std::uint64_t>(span.fs / each.fs); }
inline std::uint64_t fit(double span, double each) { return static_cast<std::uint64_t>(span / each); }

}  // namespace tessera
