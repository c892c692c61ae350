#pragma once
// What the float64 reference chooses, as a recorded trace (docs/traces/selections.md): blocks by MoBA's gate,
// experts by a router, of keys, queries and scores drawn from normal distributions.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace tessera::cli {

struct Recording {
  std::string what = "selection";  ///< or "routing"
  std::string to = "jsonl";        ///< or "binary"
  std::int64_t tokens = 4096, layers = 1, topk = 3;
  std::int64_t heads = 4, kv_heads = 4, head_dim = 64, block = 512;  ///< of a selection
  std::int64_t experts = 64;                                         ///< of a routing
  std::uint64_t seed = 1;
};

/// Gives `write` the trace; returns how many records it has. Throws UsageError for what cannot be.
std::int64_t record_choices(const Recording& r, const std::function<void(std::string_view)>& write);

}  // namespace tessera::cli
