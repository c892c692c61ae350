#pragma once
// What a serving simulation tells whoever draws it.

#include <cstdint>

namespace tessera::traces {

/// One step of an instance, or several in a row.
struct StepRecord {
  std::int64_t start_ns = 0, end_ns = 0;  ///< the host's part included
  std::int64_t gpu_ns = 0;
  std::int64_t prefill_tokens = 0;
  std::int64_t decoded_tokens = 0;  ///< one of each decoding sequence
  std::int64_t steps = 1;
};

struct InstanceState {
  std::int64_t waiting = 0;  ///< requests: in its queue, or on their way to it from where they were prefilled
  std::int64_t running = 0;
  double memory_held = 0;  ///< share of the cache memory that they hold
};

class ServingObserver {
 public:
  virtual ~ServingObserver() = default;
  /// Before a step's time is asked for.
  virtual void before_step(std::uint32_t instance, std::int64_t now_ns) = 0;
  virtual void step(std::uint32_t instance, const StepRecord& step) = 0;
  /// From now on.
  virtual void state(std::uint32_t instance, std::int64_t now_ns, const InstanceState& state) = 0;
};

}  // namespace tessera::traces
