// Any bytes as a trace of requests: requests in order, or a complaint; nothing else.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "traces/requests/reader.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tessera;
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  for (const bool skip : {false, true}) {
    try {
      traces::RequestReader reader{
          std::make_unique<traces::TextSource>(text, 61), "t", {.format = {}, .skip_bad = skip}};
      std::int64_t last = 0;
      for (traces::Request r; reader.next(r);) {
        if (r.arrival_ns < last || r.input_tokens < 1 || r.output_tokens < 0) std::abort();
        last = r.arrival_ns;
      }
    } catch (const config::InputError&) {
    }
  }
  return 0;
}
