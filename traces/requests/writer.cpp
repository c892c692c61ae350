#include "traces/requests/writer.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace tessera::traces {

namespace {

/// Nanoseconds in units of 10^`digits` ns, without needless zeros.
std::string decimal(std::int64_t ns, int digits) {
  std::int64_t unit = 1;
  for (int i = 0; i < digits; ++i) unit *= 10;
  std::string text = fmt::format("{}", ns / unit);
  if (ns % unit == 0) return text;
  text += fmt::format(".{:0{}}", ns % unit, digits);
  while (text.back() == '0') text.pop_back();
  return text;
}

}  // namespace

std::string header_of(RequestFormat format, bool blocks) {
  if (format != RequestFormat::csv) return "";
  return blocks ? "arrival_s,input_tokens,output_tokens,blocks\n" : "arrival_s,input_tokens,output_tokens\n";
}

std::string line_of(RequestFormat format, const Request& r, bool blocks) {
  if (format == RequestFormat::csv) {
    const std::string line =
        fmt::format("{},{},{}", decimal(r.arrival_ns, 9), r.input_tokens, r.output_tokens);
    return blocks ? fmt::format("{},{}\n", line, fmt::join(r.blocks, " ")) : line + "\n";
  }
  return fmt::format(R"({{"timestamp": {}, "input_length": {}, "output_length": {}{}}})"
                     "\n",
                     decimal(r.arrival_ns, 6), r.input_tokens, r.output_tokens,
                     blocks ? fmt::format(R"(, "hash_ids": [{}])", fmt::join(r.blocks, ", ")) : "");
}

}  // namespace tessera::traces
