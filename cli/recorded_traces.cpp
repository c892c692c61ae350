#include "cli/recorded_traces.hpp"

#include <fmt/format.h>

#include <memory>
#include <stdexcept>

#include "cli/command.hpp"
#include "cli/table.hpp"
#include "traces/input/byte_source.hpp"
#include "traces/selections/routing.hpp"
#include "traces/selections/selection.hpp"
#include "traces/selections/writer.hpp"

namespace tessera::cli {

namespace {

constexpr std::size_t kComplaints = 10;

bool is_routing(const traces::ChoiceReader& reader) {
  return reader.header().kind == traces::ChoiceKind::experts;
}
const char* kind_of(const traces::ChoiceReader& reader) {
  return is_routing(reader) ? "routing" : "selection";
}
const char* items_of(const traces::ChoiceReader& reader) { return is_routing(reader) ? "experts" : "blocks"; }

std::string header_text(const traces::ChoiceHeader& h) {
  if (h.kind == traces::ChoiceKind::experts) return fmt::format("{} of {} experts", h.topk, h.experts);
  return fmt::format("{} tokens, {} heads, blocks of {}", h.tokens, h.heads, h.block);
}

traces::ChoiceReader open(const std::string& file) {
  try {
    return {traces::open_file(file), file};
  } catch (const std::invalid_argument& e) {
    throw UsageError{e.what()};
  }
}

/// Calls `each` with every record and `wrong` with every complaint.
template <class Each, class Wrong>
void read_all(traces::ChoiceReader& reader, Each each, Wrong wrong) {
  for (traces::ChoiceRecord r;;) {
    try {
      if (!reader.next(r)) return;
    } catch (const std::invalid_argument& e) {
      wrong(e.what());
      continue;
    }
    if (!each(r)) return;
  }
}

[[noreturn]] void refuse(const char* what) { throw UsageError{what}; }

Json spread_json(Json layer, const traces::Spread& spread) {
  layer["imbalance"] = spread.imbalance;
  layer["fullest_tenth_share"] = spread.hot_share;
  return layer;
}

}  // namespace

bool is_recorded(const std::string& file, const std::string& format) {
  if (format == "selection" || format == "routing") return true;
  if (format != "auto") return false;
  const auto source = traces::open_file(file);
  const std::string_view begin = source->read().substr(0, 4096), line = begin.substr(0, begin.find('\n'));
  return begin.substr(0, 5) == traces::kBinaryMark.substr(0, 5) ||
         line.find("\"selection_trace\"") != std::string_view::npos ||
         line.find("\"routing_trace\"") != std::string_view::npos;
}

Json describe_recorded(const std::string& file, bool skip_bad) {
  traces::ChoiceReader reader = open(file);
  if (skip_bad) reader.skip_bad();
  const traces::ChoiceHeader& h = reader.header();
  Json json{{"kind", kind_of(reader)}, {"form", reader.binary() ? "binary" : "jsonl"}},
      layers = Json::array();
  try {
    if (is_routing(reader)) {
      json["experts"] = h.experts;
      json["topk"] = h.topk;
      for (const auto& [number, layer] : summarise_experts(reader).layers)
        layers.push_back(spread_json({{"layer", number}, {"tokens", layer.tokens}}, layer.spread));
    } else {
      json["tokens"] = h.tokens;
      json["heads"] = h.heads;
      json["block"] = h.block;
      for (const auto& [number, layer] : summarise_blocks(reader).layers)
        layers.push_back(spread_json({{"layer", number}, {"records", layer.records}, {"pairs", layer.pairs}},
                                     layer.spread));
    }
  } catch (const std::invalid_argument& e) {
    throw UsageError{e.what()};
  }
  json["skipped_records"] = reader.skipped();
  json["layers"] = std::move(layers);
  return json;
}

std::string head_of_recorded(const std::string& file, std::int64_t lines) {
  traces::ChoiceReader reader = open(file);
  const bool heads = !is_routing(reader);
  std::vector<std::string> header{"layer", "tokens", items_of(reader)};
  if (heads) header.insert(header.begin() + 1, "head");
  Table table{header};
  std::int64_t n = 0;
  read_all(
      reader,
      [&](const traces::ChoiceRecord& r) {
        std::vector<std::string> row{fmt::format("{}", r.layer), fmt::format("{}-{}", r.first, r.end - 1),
                                     fmt::format("{}", fmt::join(r.items, " "))};
        if (heads) row.insert(row.begin() + 1, fmt::format("{}", r.head));
        table.add(std::move(row));
        return ++n < lines;
      },
      refuse);
  return fmt::format("{} ({}: {})\n{}", file, kind_of(reader), header_text(reader.header()), table.text());
}

RecordedCheck check_recorded(const std::string& file) {
  traces::ChoiceReader reader = open(file);
  RecordedCheck check{.kind = fmt::format("{}{}", reader.binary() ? "binary " : "", kind_of(reader))};
  read_all(
      reader, [&](const traces::ChoiceRecord&) { return ++check.records > 0; },
      [&](const char* what) {
        if (check.first.size() < kComplaints) check.first.emplace_back(what);
        ++check.bad;
      });
  return check;
}

std::int64_t convert_recorded(const std::string& file, const std::string& to,
                              const std::function<void(std::string_view)>& write, std::int64_t* bad) {
  traces::ChoiceReader reader = open(file);
  const bool heads = !is_routing(reader);
  std::unique_ptr<traces::ChoiceWriter> writer;
  if (to == "binary") writer = traces::binary_writer(reader.header(), write);
  if (to == "jsonl") writer = traces::json_writer(reader.header(), write);
  if (!writer)
    write(fmt::format("layer,{}first_token,end_token,{}\n", heads ? "head," : "", items_of(reader)));
  std::int64_t records = 0;
  read_all(
      reader,
      [&](const traces::ChoiceRecord& r) {
        if (writer)
          writer->add(r);
        else
          write(fmt::format("{},{}{},{},{}\n", r.layer, heads ? fmt::format("{},", r.head) : "", r.first,
                            r.end, fmt::join(r.items, " ")));
        return ++records > 0;
      },
      [&](const char* what) {
        if (bad == nullptr) refuse(what);
        ++*bad;
      });
  if (writer) writer->finish();
  return records;
}

}  // namespace tessera::cli
