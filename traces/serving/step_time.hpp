#pragma once
// What one step of a serving engine works on, and how long it takes.

#include <cstdint>

namespace tessera::traces {

/// New tokens of prompts, in chunks, and one new token of each of some sequences, in one forward pass.
struct StepShape {
  std::int64_t prefill_tokens = 0;
  /// Sum over chunks of n (p + n / 2), n its tokens, p those of its sequence before it: (query, key) pairs.
  double prefill_pairs = 0;
  std::int64_t sequences = 0;       ///< that decode a token
  std::int64_t context_tokens = 0;  ///< in front of those tokens, of all such sequences
};

class StepTime {
 public:
  virtual ~StepTime() = default;
  /// On the GPUs, without the host's part. Called once for each step that an instance runs.
  virtual std::int64_t ns(const StepShape& shape, std::uint32_t instance) = 0;
};

}  // namespace tessera::traces
