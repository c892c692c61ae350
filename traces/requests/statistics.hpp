#pragma once
// What a trace of requests is like, in constant memory.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <unordered_set>

#include "traces/requests/request.hpp"

namespace tessera::traces {

struct RequestStatistics {
  static constexpr std::size_t kMostNames = std::size_t{1} << 22;  ///< of blocks, remembered

  std::int64_t requests = 0, last_ns = 0;
  double input_tokens = 0, output_tokens = 0;
  std::int64_t most_input = 0, most_output = 0;
  double gap_sum_s = 0, gap_squares_s2 = 0;
  std::int64_t blocks = 0;       ///< named by all requests
  std::int64_t blocks_seen = 0;  ///< of them, named before: what an endless prefix cache would hit at most
  bool complete = true;          ///< no name was forgotten

  void add(const Request& r) {
    if (requests++ > 0) {
      const double gap = static_cast<double>(r.arrival_ns - last_ns) * 1e-9;
      gap_sum_s += gap;
      gap_squares_s2 += gap * gap;
    }
    last_ns = r.arrival_ns;
    input_tokens += static_cast<double>(r.input_tokens);
    output_tokens += static_cast<double>(r.output_tokens);
    most_input = std::max(most_input, r.input_tokens);
    most_output = std::max(most_output, r.output_tokens);
    for (const std::uint64_t name : r.blocks) {
      ++blocks;
      if (names_.count(name) != 0) {
        ++blocks_seen;
      } else if (names_.size() < kMostNames) {
        names_.insert(name);
      } else {
        complete = false;
      }
    }
  }

  /// Standard deviation over mean of the times between arrivals: 1 of a Poisson process.
  double gap_variation() const {
    const auto n = static_cast<double>(requests - 1);
    if (n < 1 || gap_sum_s <= 0) return 0;
    const double mean = gap_sum_s / n;
    return std::sqrt(std::max(0.0, gap_squares_s2 / n - mean * mean)) / mean;
  }

 private:
  std::unordered_set<std::uint64_t> names_;
};

}  // namespace tessera::traces
