#pragma once
// What a simulated deployment did. Every metric's definition: docs/replay.md and `tessera replay --help`.

#include <array>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "traces/serving/histogram.hpp"
#include "traces/serving/series.hpp"

namespace tessera::traces {

enum class Fate : std::uint8_t {
  finished,
  no_output,      ///< rejected: it asks for no token
  too_long,       ///< rejected: more tokens than the model has positions
  no_memory,      ///< rejected: an empty instance could not hold it
  queue_full,     ///< rejected: ServingSpec::max_waiting
  still_waiting,  ///< at the end, and had not begun
  still_running,
};
/// For programs, and for people.
inline constexpr std::array<std::string_view, 7> kFates{
    "finished",      "rejected_no_output", "rejected_too_long", "rejected_no_memory", "rejected_queue_full",
    "still_waiting", "still_running"};
inline constexpr std::array<std::string_view, 7> kFateTexts{
    "finished",
    "rejected: asks for no output",
    "rejected: longer than the model's positions",
    "rejected: needs more memory than an instance has",
    "rejected: queue full",
    "still waiting",
    "still running"};

/// Limits that a good request keeps, in ms; 0: none.
struct Objective {
  double ttft_ms = 0, tpot_ms = 0, e2e_ms = 0;
};

/// One request, when its fate is known.
struct RequestRecord {
  std::int64_t line = 0;
  std::int64_t arrival_ns = 0, input_tokens = 0, output_tokens = 0;
  std::int64_t cached_tokens = 0;  ///< of the prompt, found in the prefix cache when it first began
  std::int64_t produced = 0;       ///< tokens
  std::int64_t started_ns = -1, first_token_ns = -1, last_token_ns = -1;  ///< -1: never
  std::int64_t preemptions = 0;
  std::int32_t instance = -1;  ///< that it went to first
  /// Prefill apart from decoding: where it decoded, and since when its cache was there. -1: nowhere else,
  /// never.
  std::int32_t decode_instance = -1;
  std::int64_t handed_over_ns = -1;
  Fate fate = Fate::still_waiting;
};
using RecordSink = std::function<void(const RequestRecord&)>;

struct InstanceReport {
  std::string_view role;  ///< "serve", "prefill", "decode"
  std::int64_t requests = 0, steps = 0;
  std::int64_t busy_ns = 0;  ///< in steps, the host's part included
  std::int64_t gpu_ns = 0;
  std::int64_t prefilled_tokens = 0, decoded_tokens = 0;
  std::int64_t preemptions = 0;
  std::int64_t evicted_blocks = 0;
  double memory_mean = 0, memory_most = 0;  ///< share of the capacity that sequences held
};

struct ServingReport {
  std::int64_t end_ns = 0;  ///< of the simulation: the last event, or where it was stopped
  std::int64_t arrived = 0;
  std::array<std::int64_t, kFates.size()> fates{};
  std::int64_t input_tokens = 0, output_tokens = 0, cached_tokens = 0;  ///< of requests that began; produced
  std::int64_t good = 0;                                                ///< finished within the objective
  Histogram queue, ttft, tpot, itl, e2e;
  Histogram handover;  ///< prefill apart from decoding: first token to the cache's arrival
  Series waiting, running, memory;
  std::vector<InstanceReport> instances;
};

}  // namespace tessera::traces
