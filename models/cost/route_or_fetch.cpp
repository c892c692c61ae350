#include "models/cost/route_or_fetch.hpp"

#include <fmt/format.h>

#include <stdexcept>
#include <utility>

namespace tessera::cost {

namespace {
constexpr double kStatsBytes = 8;  // row maximum and sum of exponentials, fp32
}  // namespace

RouteOrFetch route_or_fetch(const Path& path, const RemoteLatents& w) {
  for (const auto& [name, value] : {std::pair{"query_rows", w.query_rows},
                                    {"heads", w.heads},
                                    {"context_rows", w.context_rows},
                                    {"steps", w.steps},
                                    {"query_width", w.query_width},
                                    {"result_width", w.result_width},
                                    {"cached_width", w.cached_width},
                                    {"element_bytes", w.element_bytes}}) {
    if (value <= 0)
      throw std::invalid_argument{fmt::format("route or fetch: {} must be positive, not {}", name, value)};
  }
  if (!(path.bytes_per_us > 0)) {
    throw std::invalid_argument{
        fmt::format("route or fetch: bytes_per_us must be positive, not {}", path.bytes_per_us)};
  }
  for (const auto& [name, us] : {std::pair{"latency_us", path.latency_us},
                                 {"attend_remote_us", w.attend_remote_us},
                                 {"attend_local_us", w.attend_local_us},
                                 {"merge_us", w.merge_us},
                                 {"splice_us", w.splice_us}}) {
    if (!(us >= 0))
      throw std::invalid_argument{fmt::format("route or fetch: {} must not be below 0, not {}", name, us)};
  }
  const auto d = [](std::int64_t n) { return static_cast<double>(n); };
  const double e = d(w.element_bytes), steps = d(w.steps), round_trip = 2 * path.latency_us;
  const double step_bytes =
      d(w.query_rows) * d(w.heads) * ((d(w.query_width) + d(w.result_width)) * e + kStatsBytes);
  const double row_bytes = d(w.cached_width) * e;
  const double fetch_fixed_us = round_trip + w.splice_us + steps * w.attend_local_us;

  RouteOrFetch r;
  r.route_bytes = steps * step_bytes;
  r.fetch_bytes = d(w.context_rows) * row_bytes;
  r.route_us = steps * (round_trip + step_bytes / path.bytes_per_us + w.attend_remote_us + w.merge_us);
  r.fetch_us = fetch_fixed_us + r.fetch_bytes / path.bytes_per_us;
  r.crossover_rows = (r.route_us - fetch_fixed_us) * path.bytes_per_us / row_bytes;
  r.route = r.route_us < r.fetch_us;
  return r;
}

}  // namespace tessera::cost
