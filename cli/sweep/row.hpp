#pragma once
// What is recorded of a point.

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "cli/output.hpp"

namespace tessera::cli {

/// Columns of numbers, in the order of the table. Of a kernel, those of runs are empty, and the other way
/// round.
inline constexpr std::array kMetrics{"latency_us",    "ttft_us",          "decode_us_per_token",
                                     "tokens",        "tokens_per_s",     "energy_j",
                                     "tokens_per_j",  "cost_usd",         "tokens_per_usd",
                                     "usd_per_hour",
                                     "memory_bytes",  // of the node that needs most
                                     "memory_share",  // of that node's HBM, of the node where it is greatest
                                     "memory_fits",   // 1 if every node's does
                                     "traffic_bytes", "link_utilization", "exposed_us",
                                     "nodes",         "comp_nodes",       "attn_nodes",
                                     "ci95_percent",  "execution_us",     "tflops",
                                     "hbm_bytes",     "l2_bytes",         "clock_mhz"};
inline constexpr std::size_t kMetricCount = kMetrics.size();

std::size_t metric_index(std::string_view name);  ///< of one of kMetrics; throws std::out_of_range

struct Row {
  std::int64_t id = 0;
  std::string fidelity;     ///< "cost" or "cycle"
  Json axes;                ///< {"sharding.beta": "2"}
  std::string config_hash;  ///< as of `tessera run`; "" if the point could not be read
  std::string status;       ///< "ok", "infeasible" (a constraint is not met) or "failed"
  std::string error;        ///< the constraint, or why it failed
  double wall_s = 0;
  std::string bottleneck;
  std::array<std::optional<double>, kMetricCount> metrics;
  Json stages = Json::object();  ///< {"prefill": {"attention": us}, "decode": ...}: on the critical path

  std::optional<double>& metric(std::string_view name) { return metrics[metric_index(name)]; }
  const std::optional<double>& metric(std::string_view name) const { return metrics[metric_index(name)]; }
};

std::string to_text(const Row& row);  ///< one line
Row row_from(const std::string& text);

}  // namespace tessera::cli
