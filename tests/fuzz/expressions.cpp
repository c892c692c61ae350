// Any bytes as a condition of a sweep: it holds or not, or there is a complaint; nothing else.

#include <cstddef>
#include <cstdint>
#include <string>

#include "cli/sweep/expression.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tessera::cli;
  try {
    const Expression e{std::string{reinterpret_cast<const char*>(data), size}};
    for (const std::string text : {"1", "8K", "-2.5", "cost"}) {
      try {
        e.holds([&](const std::string&) { return term_of(text); });
      } catch (const ExpressionError&) {
      }
    }
  } catch (const ExpressionError&) {
  }
  return 0;
}
