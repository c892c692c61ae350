#include "cli/serving.hpp"

#include <algorithm>

namespace tessera::cli {

traces::ServingSpec read_serving(const config::Value& map) {
  map.allow_only({"replicas", "prefill_replicas", "max_batched_tokens", "max_sequences", "max_waiting",
                  "page_tokens", "memory_share", "prefix_cache", "snapshot_tokens", "routing", "step_us",
                  "sequence_us", "overlap", "tokenize_us_per_token"});
  traces::ServingSpec s;
  const auto integer = [&](const char* key, std::int64_t least, std::int64_t most, std::int64_t& value) {
    if (const auto v = map.find(key)) value = v->as_integer(least, most);
  };
  const auto number = [&](const char* key, double least, double most, double& value) {
    if (const auto v = map.find(key)) value = v->as_number(least, most);
  };
  const auto truth = [&](const char* key, bool& value) {
    if (const auto v = map.find(key)) value = v->as_bool();
  };
  integer("replicas", 1, 1024, s.replicas);
  integer("prefill_replicas", 0, s.replicas - 1, s.prefill_replicas);
  integer("max_batched_tokens", 1, 1 << 20, s.max_batched_tokens);
  integer("max_sequences", 1, 1 << 14, s.max_sequences);
  integer("max_waiting", 0, 1 << 30, s.max_waiting);
  integer("page_tokens", 1, 1 << 16, s.page_tokens);
  integer("snapshot_tokens", 1, 1 << 24, s.snapshot_tokens);
  number("memory_share", 0.01, 1, s.memory_share);
  number("step_us", 0, 1e7, s.step_us);
  number("sequence_us", 0, 1e6, s.sequence_us);
  number("tokenize_us_per_token", 0, 1e6, s.tokenize_us_per_token);
  truth("prefix_cache", s.prefix_cache);
  truth("overlap", s.overlap);
  if (const auto routing = map.find("routing")) {
    const std::string name = routing->as_one_of({traces::kRoutings.begin(), traces::kRoutings.end()});
    s.routing = static_cast<traces::Routing>(
        std::find(traces::kRoutings.begin(), traces::kRoutings.end(), name) - traces::kRoutings.begin());
  }
  return s;
}

}  // namespace tessera::cli
