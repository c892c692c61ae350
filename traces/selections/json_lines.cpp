// Choices as JSON lines: one object each, with known keys of whole numbers and lists of them.

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>

#include "traces/input/line_reader.hpp"
#include "traces/input/utf8.hpp"
#include "traces/selections/choice.hpp"

namespace tessera::traces {

namespace {

class JsonChoices final : public ChoiceSource {
 public:
  JsonChoices(std::unique_ptr<ByteSource> in, std::string name, std::optional<ChoiceKind> wanted)
      : lines_{std::move(in)}, name_{std::move(name)}, wanted_{wanted} {}

  ChoiceHeader header() override {
    const bool any = next_object();
    const bool experts = wanted_ ? *wanted_ == ChoiceKind::experts : any && object_.contains("routing_trace");
    kind_ = experts ? ChoiceKind::experts : ChoiceKind::blocks;
    const char* mark = experts ? "routing_trace" : "selection_trace";
    if (!any) complain(fmt::format("the trace is empty; expected a header with \"{}\": 1", mark));
    ChoiceHeader h{.kind = kind_};
    if (experts) {
      require_keys({mark, "experts", "topk"});
      h.experts = integer("experts");
      h.topk = integer("topk");
    } else {
      require_keys({mark, "tokens", "heads", "block"});
      h.tokens = integer("tokens");
      h.heads = integer("heads");
      h.block = integer("block");
    }
    if (const std::int64_t version = integer(mark); version != 1)
      complain(fmt::format("{}: must be 1, not {}", mark, version));
    return h;
  }

  bool next(ChoiceRecord& r) override {
    if (!next_object()) return false;
    const bool experts = kind_ == ChoiceKind::experts;
    if (experts)
      require_keys({"layer", "tokens", "experts"});
    else
      require_keys({"layer", "head", "tokens", "blocks"});
    r.layer = integer("layer");
    r.head = experts ? 0 : integer("head");
    const nlohmann::json& range = object_.at("tokens");
    if (!range.is_array() || range.size() != 2 || !range[0].is_number_integer() ||
        !range[1].is_number_integer())
      complain(fmt::format("tokens: expected [first, end], not {}", range.dump()));
    r.first = range[0].get<std::int64_t>();
    r.end = range[1].get<std::int64_t>();
    list(experts ? "experts" : "blocks", r.items);
    return true;
  }

  [[noreturn]] void complain(const std::string& message) const override {
    throw std::invalid_argument{fmt::format("{}:{}: {}", name_, lines_.number(), message)};
  }

 private:
  /// Empty lines are passed over.
  bool next_object() {
    while (lines_.next()) {
      const std::string_view line = lines_.line();
      if (lines_.too_long()) complain(fmt::format("longer than {} bytes", LineReader::kMostBytes));
      if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      if (const std::size_t bad = first_bad_utf8(line); bad != std::string_view::npos)
        complain(fmt::format("byte 0x{:02X} at column {} is no UTF-8", static_cast<unsigned char>(line[bad]),
                             bad + 1));
      object_ = nlohmann::json::parse(line, nullptr, false);
      if (object_.is_discarded())
        complain(lines_.ended() ? "not JSON"
                                : "not JSON (the file ends within this line: it may be truncated)");
      if (!object_.is_object()) complain("expected an object");
      return true;
    }
    return false;
  }

  void require_keys(const std::vector<std::string_view>& keys) const {
    for (const auto& [key, value] : object_.items()) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end())
        complain(fmt::format("unknown key '{}'; expected {}", key, fmt::join(keys, ", ")));
    }
    for (const std::string_view key : keys)
      if (!object_.contains(key)) complain(fmt::format("'{}' is missing", key));
  }

  std::int64_t integer(const char* key) const {
    const nlohmann::json& value = object_.at(key);
    if (!value.is_number_integer())
      complain(fmt::format("{}: expected a whole number, not {}", key, value.dump()));
    return value.get<std::int64_t>();
  }

  void list(const char* key, std::vector<std::int32_t>& into) const {
    const nlohmann::json& value = object_.at(key);
    if (!value.is_array()) complain(fmt::format("{}: expected a list of whole numbers", key));
    into.clear();
    for (const nlohmann::json& item : value) {
      if (!item.is_number_integer())
        complain(fmt::format("{}: expected whole numbers, not {}", key, item.dump()));
      const auto n = item.get<std::int64_t>();
      if (n < 0 || n > INT32_MAX)
        complain(fmt::format("{}: expected numbers from 0 to {}, not {}", key, INT32_MAX, n));
      into.push_back(static_cast<std::int32_t>(n));
    }
  }

  LineReader lines_;
  std::string name_;
  std::optional<ChoiceKind> wanted_;
  ChoiceKind kind_ = ChoiceKind::blocks;
  nlohmann::json object_;
};

}  // namespace

std::unique_ptr<ChoiceSource> json_choices(std::unique_ptr<ByteSource> in, std::string name,
                                           std::optional<ChoiceKind> wanted) {
  return std::make_unique<JsonChoices>(std::move(in), std::move(name), wanted);
}

}  // namespace tessera::traces
