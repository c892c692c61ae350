#pragma once
// The binary form of recorded choices, and JSON lines, written. docs/traces/selections.md has the format.

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "traces/selections/choice.hpp"

namespace tessera::traces {

/// What a binary trace begins with: no text does, and a change of its line ends shows.
inline constexpr std::string_view kBinaryMark{"\x89TSEL\r\n\x1a", 8};
inline constexpr std::uint32_t kBinaryVersion = 1;

class ChoiceWriter {
 public:
  using Write = std::function<void(std::string_view)>;
  virtual ~ChoiceWriter() = default;
  virtual void add(const ChoiceRecord& record) = 0;
  /// Once, after the last record: without it the trace counts as cut off.
  virtual void finish() = 0;
};

/// Gives what it makes to `write`, the header at once. Records are not checked.
std::unique_ptr<ChoiceWriter> json_writer(const ChoiceHeader& header, ChoiceWriter::Write write);
std::unique_ptr<ChoiceWriter> binary_writer(const ChoiceHeader& header, ChoiceWriter::Write write);

}  // namespace tessera::traces
