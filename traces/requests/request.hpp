#pragma once
// One request of a serving trace.

#include <cstdint>
#include <vector>

namespace tessera::traces {

struct Request {
  std::int64_t line = 0;          ///< of the trace
  std::int64_t arrival_ns = 0;    ///< after the trace's first request
  std::int64_t input_tokens = 0;  ///< at least 1
  std::int64_t output_tokens = 0;
  /// Names of the prompt's blocks of RequestReader::block_tokens() tokens, the last one perhaps in part: two
  /// requests whose lists begin alike have that many blocks of their prompts in common. Empty: not known.
  std::vector<std::uint64_t> blocks;
};

}  // namespace tessera::traces
