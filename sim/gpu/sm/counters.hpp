#pragma once
// What an SM has done, for statistics, utilisation and energy.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace tessera::sim {

struct SmCounters {
  std::uint64_t operations_issued = 0, operations_retired = 0;
  double tensor_flops = 0, fp32_ops = 0, integer_ops = 0, mufu_ops = 0;
  std::uint64_t shared_bytes = 0;
  std::uint64_t load_bytes_requested = 0, load_bytes_received = 0, store_bytes = 0;
  std::uint64_t multicast_bytes_received = 0;  ///< received, but requested by another CTA of the cluster
  std::uint64_t ctas = 0;

  SmCounters& operator+=(const SmCounters& o) {
    zip(*this, o, [](auto& a, auto b) { a += b; });
    return *this;
  }
  SmCounters& operator-=(const SmCounters& o) {
    zip(*this, o, [](auto& a, auto b) { a -= b; });
    return *this;
  }
  friend SmCounters operator-(SmCounters a, const SmCounters& b) { return a -= b; }
  /// Counts are rounded.
  SmCounters scaled(double factor) const { return SmCounters{}.plus(*this, factor); }
  /// This and `factor` times `o`, nothing below zero.
  SmCounters plus(const SmCounters& o, double factor) const {
    SmCounters r = *this;
    zip(r, o, [factor](auto& a, auto b) {
      const double sum = std::max(0.0, static_cast<double>(a) + static_cast<double>(b) * factor);
      if constexpr (std::is_floating_point_v<decltype(b)>)
        a = sum;
      else
        a = static_cast<std::uint64_t>(std::llround(sum));
    });
    return r;
  }

 private:
  template <class F>
  static void zip(SmCounters& a, const SmCounters& b, F f) {
    f(a.operations_issued, b.operations_issued);
    f(a.operations_retired, b.operations_retired);
    f(a.tensor_flops, b.tensor_flops);
    f(a.fp32_ops, b.fp32_ops);
    f(a.integer_ops, b.integer_ops);
    f(a.mufu_ops, b.mufu_ops);
    f(a.shared_bytes, b.shared_bytes);
    f(a.load_bytes_requested, b.load_bytes_requested);
    f(a.load_bytes_received, b.load_bytes_received);
    f(a.store_bytes, b.store_bytes);
    f(a.multicast_bytes_received, b.multicast_bytes_received);
    f(a.ctas, b.ctas);
  }
};

}  // namespace tessera::sim
