// Fuzzes recorded choices, JSON lines and binary: whatever comes is read or refused by its place, and what
// was read is written and read back.

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "traces/input/wire.hpp"
#include "traces/selections/writer.hpp"

using namespace tessera;

namespace {

/// Reads on behind whatever is wrong: comes to an end.
void read_past_bad(std::string_view text) {
  try {
    traces::ChoiceReader reader{std::make_unique<traces::TextSource>(text, 61), "t"};
    reader.skip_bad();
    for (traces::ChoiceRecord r; reader.next(r);) {
    }
  } catch (const std::invalid_argument&) {
  }
}

/// The records of a text up to the first that is wrong.
std::vector<traces::ChoiceRecord> records_in(std::string_view text, traces::ChoiceHeader& header,
                                             bool& whole) {
  std::vector<traces::ChoiceRecord> records;
  whole = false;
  try {
    traces::ChoiceReader reader{std::make_unique<traces::TextSource>(text, 61), "t"};
    header = reader.header();
    for (traces::ChoiceRecord r; reader.next(r);) records.push_back(r);
    whole = true;
  } catch (const std::invalid_argument&) {
  }
  return records;
}

/// The same with the checksums that the parts should have: else nothing behind them would be reached.
std::string repaired(std::string text) {
  if (!text.starts_with(traces::kBinaryMark)) return text;
  std::string_view rest =
      std::string_view{text}.substr(std::min(text.size(), traces::kBinaryMark.size() + 4));
  try {
    while (!rest.empty()) {
      const std::uint64_t length = traces::take_varint(rest);
      if (length < 5 || length > rest.size()) break;
      const auto crc = crc32(0, reinterpret_cast<const Bytef*>(rest.data()), static_cast<uInt>(length - 5));
      const auto tail = static_cast<std::size_t>(rest.data() - text.data()) + length - 5;
      text[tail] = 15U << 3U | 5U;
      for (unsigned i = 0; i < 4; ++i) text[tail + 1 + i] = static_cast<char>(crc >> (8 * i));
      rest.remove_prefix(length);
    }
  } catch (const traces::WireError&) {
  }
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  traces::ChoiceHeader header;
  bool whole = false;
  const std::string text = repaired(std::string{reinterpret_cast<const char*>(data), size});
  read_past_bad(text);
  const auto records = records_in(text, header, whole);
  if (records.empty()) return 0;
  for (const auto make : {traces::binary_writer, traces::json_writer}) {
    std::string out;
    const auto writer = make(header, [&](std::string_view piece) { out += piece; });
    for (const traces::ChoiceRecord& r : records) writer->add(r);
    writer->finish();
    traces::ChoiceHeader again;
    if (records_in(out, again, whole) != records || !whole || !(again == header)) std::abort();
  }
  return 0;
}
