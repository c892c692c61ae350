// Any bytes as a trace of operators: nodes that only depend on earlier ones, or a complaint; nothing else.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "configs/reader/document.hpp"
#include "traces/operators/readers.hpp"
#include "traces/operators/replay.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tessera;
  try {
    const std::string_view text{reinterpret_cast<const char*>(data), size};
    const traces::OperatorTrace trace =
        traces::read_chakra(std::make_unique<traces::TextSource>(text, 61), "t");
    for (std::size_t n = 0; n < trace.nodes.size(); ++n) {
      for (const std::uint32_t before : trace.nodes[n].after) {
        if (before >= n) std::abort();
      }
    }
    traces::replay_operators(
        trace, [](const models::Operator& op) { return models::flops_of(op); }, nullptr);
  } catch (const config::InputError&) {
  }
  return 0;
}
