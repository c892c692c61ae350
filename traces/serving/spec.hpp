#pragma once
// How a model is served, as data. docs/replay.md gives the sources of the numbers.

#include <array>
#include <cstdint>
#include <string_view>

namespace tessera::traces {

/// Which instance a request goes to.
enum class Routing : std::uint8_t {
  round_robin,
  least_requests,  ///< the fewest unfinished requests
  least_prefill,   ///< the fewest prompt tokens to compute before its first token, what is cached left out
};
inline constexpr std::array<std::string_view, 3> kRoutings{"round_robin", "least_requests", "least_prefill"};

struct ServingSpec {
  std::int64_t replicas = 1;          ///< instances, each the experiment's whole machine
  std::int64_t prefill_replicas = 0;  ///< of them, those that only prefill for the others; 0: all do both
  std::int64_t max_batched_tokens = 8192;  ///< of a step, prompts' chunks and decoded tokens together
  std::int64_t max_sequences = 256;        ///< running in one instance
  std::int64_t max_waiting = 0;   ///< in one instance's queue, beyond which requests are rejected; 0: any
  std::int64_t page_tokens = 64;  ///< tokens that memory is given out for at a time
  double memory_share = 0.9;      ///< of a GPU's memory that may be used
  bool prefix_cache = true;
  std::int64_t snapshot_tokens =
      4096;  ///< a recurrent state is kept at multiples of this, and at a prompt's end
  Routing routing = Routing::least_requests;

  /// The host's part of a step: scheduling, inputs, outputs.
  double step_us = 338;
  double sequence_us = 12.7;           ///< for each sequence in it
  bool overlap = false;                ///< beside the GPU's part of the step before
  double tokenize_us_per_token = 2.2;  ///< of a request's prompt, before it is queued
};

/// What instances need to know of the model and the machine.
struct InstanceMemory {
  std::int64_t capacity_bytes =
      0;                         ///< for caches and states, on the node that has least for its share of them
  std::int64_t token_bytes = 0;  ///< there, of one token
  std::int64_t state_bytes = 0;  ///< there, of one sequence, whatever its length
};

struct Handover {
  double gb_per_s = 0;  ///< from one instance, all its nodes together
  double latency_us = 0;
  std::int64_t token_bytes = 0, state_bytes = 0;  ///< of one copy
};

}  // namespace tessera::traces
