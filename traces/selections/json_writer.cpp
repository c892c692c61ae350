// Recorded choices as JSON lines, written: needs no more than fmt, since the program that is carried to a GPU
// does it, too.

#include <fmt/format.h>

#include <iterator>

#include "traces/selections/writer.hpp"

namespace tessera::traces {

namespace {

class JsonWriter : public ChoiceWriter {
 public:
  JsonWriter(const ChoiceHeader& h, Write write) : kind_{h.kind}, write_{std::move(write)} {
    if (kind_ == ChoiceKind::blocks)
      write_(fmt::format("{{\"selection_trace\": 1, \"tokens\": {}, \"heads\": {}, \"block\": {}}}\n",
                         h.tokens, h.heads, h.block));
    else
      write_(fmt::format("{{\"routing_trace\": 1, \"experts\": {}, \"topk\": {}}}\n", h.experts, h.topk));
  }
  void add(const ChoiceRecord& r) override {
    line_.clear();
    const auto out = std::back_inserter(line_);
    fmt::format_to(out, "{{\"layer\": {}, ", r.layer);
    if (kind_ == ChoiceKind::blocks) fmt::format_to(out, "\"head\": {}, ", r.head);
    fmt::format_to(out, "\"tokens\": [{}, {}], \"{}\": [{}]}}\n", r.first, r.end,
                   kind_ == ChoiceKind::blocks ? "blocks" : "experts", fmt::join(r.items, ", "));
    write_(line_);
  }
  void finish() override {}

 private:
  ChoiceKind kind_;
  Write write_;
  std::string line_;
};

}  // namespace

std::unique_ptr<ChoiceWriter> json_writer(const ChoiceHeader& header, ChoiceWriter::Write write) {
  return std::make_unique<JsonWriter>(header, std::move(write));
}

}  // namespace tessera::traces
