#include "cli/recorded_traces.hpp"

#include <fmt/format.h>

#include <optional>
#include <stdexcept>

#include "cli/command.hpp"
#include "cli/table.hpp"
#include "traces/input/byte_stream.hpp"
#include "traces/selections/routing.hpp"
#include "traces/selections/selection.hpp"

namespace tessera::cli {

namespace {

constexpr std::size_t kComplaints = 10;

bool is_routing(const std::string& file) {
  return traces::open_file(file)->read().substr(0, 4096).find("\"routing_trace\"") != std::string_view::npos;
}

/// A reader of the file's kind, whose records look alike.
struct Record {
  std::int64_t layer = 0, head = -1;  // no head: routing
  std::int64_t first = 0, end = 0;
  std::vector<std::int32_t> items;
};
class Reader {
 public:
  explicit Reader(const std::string& file) : in_{traces::open_file(file)} {
    try {
      if (is_routing(file))
        routing_.emplace(in_, file);
      else
        selection_.emplace(in_, file);
    } catch (const std::invalid_argument& e) {
      throw UsageError{e.what()};
    }
  }

  const char* kind() const { return routing_ ? "routing" : "selection"; }
  const char* items() const { return routing_ ? "experts" : "blocks"; }
  bool heads() const { return !routing_; }
  std::string header() const {
    if (routing_) return fmt::format("{} of {} experts", routing_->header().topk, routing_->header().experts);
    const traces::SelectionHeader& h = selection_->header();
    return fmt::format("{} tokens, {} heads, blocks of {}", h.tokens, h.heads, h.block);
  }
  std::optional<traces::RoutingReader>& routing() { return routing_; }
  std::optional<traces::SelectionReader>& selection() { return selection_; }

  /// Throws std::invalid_argument for a line that is wrong; the next call goes on behind it.
  bool next(Record& r) {
    if (routing_) {
      if (!routing_->next(routed_)) return false;
      r = {routed_.layer, -1, routed_.first, routed_.end, routed_.experts};
    } else {
      if (!selection_->next(selected_)) return false;
      r = {selected_.layer, selected_.head, selected_.first, selected_.end, selected_.blocks};
    }
    return true;
  }

 private:
  traces::ByteStream in_;
  std::optional<traces::RoutingReader> routing_;
  std::optional<traces::SelectionReader> selection_;
  traces::RoutingRecord routed_;
  traces::SelectionRecord selected_;
};

/// Calls `each` with every record and `wrong` with every complaint.
template <class Each, class Wrong>
void read_all(Reader& reader, Each each, Wrong wrong) {
  for (Record r;;) {
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
  return line.find("\"selection_trace\"") != std::string_view::npos ||
         line.find("\"routing_trace\"") != std::string_view::npos;
}

Json describe_recorded(const std::string& file) {
  Reader reader{file};
  Json json{{"kind", reader.kind()}}, layers = Json::array();
  try {
    if (reader.routing()) {
      const traces::RoutingSummary s = summarise(*reader.routing());
      json["experts"] = s.header.experts;
      json["topk"] = s.header.topk;
      for (const auto& [number, layer] : s.layers)
        layers.push_back(spread_json({{"layer", number}, {"tokens", layer.tokens}}, layer.spread));
    } else {
      const traces::SelectionSummary s = summarise(*reader.selection());
      json["tokens"] = s.header.tokens;
      json["heads"] = s.header.heads;
      json["block"] = s.header.block;
      for (const auto& [number, layer] : s.layers)
        layers.push_back(spread_json({{"layer", number}, {"records", layer.records}, {"pairs", layer.pairs}},
                                     layer.spread));
    }
  } catch (const std::invalid_argument& e) {
    throw UsageError{e.what()};
  }
  json["layers"] = std::move(layers);
  return json;
}

std::string head_of_recorded(const std::string& file, std::int64_t lines) {
  Reader reader{file};
  std::vector<std::string> header{"layer", "tokens", reader.items()};
  if (reader.heads()) header.insert(header.begin() + 1, "head");
  Table table{header};
  std::int64_t n = 0;
  read_all(
      reader,
      [&](const Record& r) {
        std::vector<std::string> row{fmt::format("{}", r.layer), fmt::format("{}-{}", r.first, r.end - 1),
                                     fmt::format("{}", fmt::join(r.items, " "))};
        if (reader.heads()) row.insert(row.begin() + 1, fmt::format("{}", r.head));
        table.add(std::move(row));
        return ++n < lines;
      },
      refuse);
  return fmt::format("{} ({}: {})\n{}", file, reader.kind(), reader.header(), table.text());
}

RecordedCheck check_recorded(const std::string& file) {
  Reader reader{file};
  RecordedCheck check{.kind = reader.kind()};
  read_all(
      reader, [&](const Record&) { return ++check.records > 0; },
      [&](const char* what) {
        if (check.first.size() < kComplaints) check.first.emplace_back(what);
        ++check.bad;
      });
  return check;
}

std::int64_t convert_recorded(const std::string& file, const std::function<void(const std::string&)>& write,
                              std::int64_t* bad) {
  Reader reader{file};
  write(fmt::format("layer,{}first_token,end_token,{}\n", reader.heads() ? "head," : "", reader.items()));
  std::int64_t records = 0;
  read_all(
      reader,
      [&](const Record& r) {
        write(fmt::format("{},{}{},{},{}\n", r.layer, r.head < 0 ? "" : fmt::format("{},", r.head), r.first,
                          r.end, fmt::join(r.items, " ")));
        return ++records > 0;
      },
      [&](const char* what) {
        if (bad == nullptr) refuse(what);
        ++*bad;
      });
  return records;
}

}  // namespace tessera::cli
