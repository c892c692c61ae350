#pragma once
// Attention to latents that are cached on another node: send the queries there and the partial results back,
// or fetch the cached rows and attend here [arXiv 2606.01502: probe + transfer + compute + return + merge].
//
// With r query rows of h heads, c cached rows, and n steps that attend to the same rows before they change:
//
//   B_route = r h (d_q e + d_o e + 8)        per step: the absorbed query; its partial result, row maximum
//   and
//                                            sum of exponentials
//   B_fetch = c d_c e                        once
//   T_route = n (2 L + B_route / W + t_remote + t_merge)
//   T_fetch = 2 L + B_fetch / W + t_splice + n t_local
//   c*      = (T_route - 2 L - t_splice - n t_local) W / (d_c e)
//
// W and L: bandwidth and one-way latency of the path between the nodes, of which nothing else makes use. Both
// ways round begin with a message, which for a fetch is only the request. Routing is chosen if T_route <
// T_fetch, which for given times t is where c > c*.

#include <cstdint>

namespace tessera::cost {

struct Path {
  double bytes_per_us = 0;
  double latency_us = 0;  ///< one way
};

/// One layer's attention. Widths in elements, DeepSeek-V3's by default, absorbed where the query comes from:
/// of a query and a result that are absorbed where the cache is, 192 and 128 cross instead.
struct RemoteLatents {
  std::int64_t query_rows = 1;
  std::int64_t heads = 128;
  std::int64_t context_rows = 0;  ///< cached on the other node
  std::int64_t steps = 1;
  std::int64_t query_width = 576, result_width = 512, cached_width = 576;
  std::int64_t element_bytes = 2;
  double attend_remote_us = 0, attend_local_us = 0;  ///< one step's attention, where the cache is and here
  double merge_us = 0;                               ///< of a step's results with those of other shards
  double splice_us = 0;                              ///< from what arrived to what the local kernel reads
};

struct RouteOrFetch {
  double route_bytes = 0;  ///< of all steps, both ways
  double fetch_bytes = 0;
  double route_us = 0, fetch_us = 0;
  double crossover_rows = 0;  ///< c*; below 0 where routing is cheaper for any context
  bool route = false;
};

/// Throws std::invalid_argument for a count, width, bandwidth that is not positive, or a time below 0, naming
/// it.
RouteOrFetch route_or_fetch(const Path& path, const RemoteLatents& work);

}  // namespace tessera::cost
