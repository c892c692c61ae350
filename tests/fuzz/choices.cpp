// Fuzzes recorded choices, JSON lines and binary: whatever comes is read or refused by its place, and what
// was read is written and read back.

#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "traces/selections/writer.hpp"

using namespace tessera;

namespace {

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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  traces::ChoiceHeader header;
  bool whole = false;
  const auto records = records_in({reinterpret_cast<const char*>(data), size}, header, whole);
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
