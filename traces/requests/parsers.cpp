#include "traces/requests/parsers.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <stdexcept>

#include "traces/input/json_pull.hpp"

namespace tessera::traces {

namespace {

using Error = std::runtime_error;

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// Not longer than a complaint may be.
std::string shown(std::string_view text) {
  if (text.size() <= 40) return fmt::format("'{}'", text);
  std::size_t cut = 40;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;  // between characters
  return fmt::format("'{}...'", text.substr(0, cut));
}

/// The cells of a line; none of the formats quotes any.
void split(std::string_view line, std::vector<std::string_view>& cells) {
  cells.clear();
  for (;;) {
    const std::size_t comma = line.find(',');
    cells.push_back(trimmed(line.substr(0, comma)));
    if (comma == std::string_view::npos) return;
    line.remove_prefix(comma + 1);
  }
}

/// Columns of a CSV file by their header.
class Columns {
 public:
  explicit Columns(std::string_view header) {
    std::vector<std::string_view> names;
    split(header, names);
    names_.assign(names.begin(), names.end());
  }
  /// Its index, or -1.
  int find(std::string_view name) const {
    const auto at = std::find(names_.begin(), names_.end(), name);
    return at == names_.end() ? -1 : static_cast<int>(at - names_.begin());
  }
  void read(std::string_view line) {
    split(line, cells_);
    if (cells_.size() != names_.size())
      throw Error{fmt::format("expected {} cells ({}), found {}", names_.size(), fmt::join(names_, ","),
                              cells_.size())};
  }
  std::string_view cell(int column) const { return cells_[static_cast<std::size_t>(column)]; }

 private:
  std::vector<std::string> names_;
  std::vector<std::string_view> cells_;
};

/// Digits at the front of `text`, exactly `count` of them, taken off.
int take_digits(std::string_view& text, std::size_t count) {
  int value = 0;
  if (text.size() < count) throw Error{"too short"};
  for (std::size_t i = 0; i < count; ++i) {
    if (text[i] < '0' || text[i] > '9') throw Error{"no digit"};
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(count);
  return value;
}

void take(std::string_view& text, std::string_view one_of) {
  if (text.empty() || one_of.find(text.front()) == std::string_view::npos)
    throw Error{fmt::format("'{}' is missing", one_of.front())};
  text.remove_prefix(1);
}

/// ".68059" in nanoseconds; what is beyond them is cut off.
std::int64_t take_fraction(std::string_view& text) {
  if (text.empty() || text.front() != '.') return 0;
  text.remove_prefix(1);
  std::int64_t ns = 0, unit = 100'000'000;
  if (text.empty() || text.front() < '0' || text.front() > '9') throw Error{"no digit after the point"};
  for (; !text.empty() && text.front() >= '0' && text.front() <= '9'; text.remove_prefix(1), unit /= 10)
    ns += (text.front() - '0') * unit;
  return ns;
}

std::int64_t date_of(std::string_view text) {
  namespace c = std::chrono;
  const int year = take_digits(text, 4);
  take(text, "-");
  const int month = take_digits(text, 2);
  take(text, "-");
  const c::year_month_day day{c::year{year}, c::month{static_cast<unsigned>(month)},
                              c::day{static_cast<unsigned>(take_digits(text, 2))}};
  take(text, " T");
  const int hours = take_digits(text, 2);
  take(text, ":");
  const int minutes = take_digits(text, 2);
  take(text, ":");
  const int seconds = take_digits(text, 2);
  if (!day.ok() || year < 1971 || year > 2200 || hours > 23 || minutes > 59 || seconds > 60)
    throw Error{"no such time"};
  std::int64_t ns = take_fraction(text);
  std::int64_t offset_min = 0;
  if (text == "Z") {
    text = {};
  } else if (!text.empty()) {
    const bool west = text.front() == '-';
    take(text, "+-");
    const int h = take_digits(text, 2);
    take(text, ":");
    offset_min = (west ? -1 : 1) * (h * 60 + take_digits(text, 2));
  }
  if (!text.empty()) throw Error{"something follows"};
  const std::int64_t days = c::sys_days{day}.time_since_epoch().count();
  const std::int64_t s = ((days * 24 + hours) * 60 + minutes - offset_min) * 60 + seconds;
  return s * 1'000'000'000 + ns;
}

class Mooncake : public RequestParser {
 public:
  void parse(std::string_view line, Request& r) override {
    try {
      read(line, r);
    } catch (const JsonError& e) {
      throw Error{e.what()};
    }
  }

 private:
  void read(std::string_view line, Request& r) {
    json_.reset(line);
    if (json_.next() != JsonToken::begin_object) throw Error{"expected a JSON object"};
    unsigned seen = 0;
    r.blocks.clear();
    while (json_.next() == JsonToken::key) {
      const auto it = std::find(kKeys.begin(), kKeys.end(), json_.text());
      if (it == kKeys.end()) {
        json_.skip_value();
        continue;
      }
      const auto key = static_cast<std::size_t>(it - kKeys.begin());
      if ((seen & (1U << key)) != 0) throw Error{fmt::format("key '{}' is given twice", kKeys[key])};
      seen |= 1U << key;
      if (key == 3) {
        read_blocks(r);
        continue;
      }
      if (json_.next() != JsonToken::number) throw Error{fmt::format("{}: expected a number", kKeys[key])};
      if (key == 0) {
        r.arrival_ns = milliseconds();
      } else {
        const std::int64_t tokens = json_.integer(), least = key == 1 ? 1 : 0;
        if (tokens < least || tokens > kMostTokens)
          throw Error{fmt::format("{}: {} is not from {} to {}", kKeys[key], tokens, least, kMostTokens)};
        (key == 1 ? r.input_tokens : r.output_tokens) = tokens;
      }
    }
    json_.next();  // nothing may follow
    for (std::size_t key = 0; key < 3; ++key) {
      if ((seen & (1U << key)) == 0) throw Error{fmt::format("key '{}' is missing", kKeys[key])};
    }
    const std::int64_t blocks = (r.input_tokens + kMooncakeBlockTokens - 1) / kMooncakeBlockTokens;
    if (!r.blocks.empty() && static_cast<std::int64_t>(r.blocks.size()) != blocks) {
      throw Error{fmt::format("hash_ids: {} tokens take {} blocks of {}, found {}", r.input_tokens, blocks,
                              kMooncakeBlockTokens, r.blocks.size())};
    }
  }
  std::int64_t milliseconds() {
    const double ms = json_.number();
    if (ms < 0 || ms > static_cast<double>(kMostSeconds) * 1e3)
      throw Error{fmt::format("timestamp: {} ms is not from 0 to 100 years", json_.text())};
    return static_cast<std::int64_t>(ms * 1e6 + 0.5);
  }
  void read_blocks(Request& r) {
    if (json_.next() != JsonToken::begin_array) throw Error{"hash_ids: expected a list"};
    for (;;) {
      const JsonToken token = json_.next();
      if (token == JsonToken::end_array) return;
      if (token != JsonToken::number) throw Error{"hash_ids: expected whole numbers"};
      const std::int64_t id = json_.integer();
      if (id < 0) throw Error{fmt::format("hash_ids: {} is negative", id)};
      r.blocks.push_back(static_cast<std::uint64_t>(id));
    }
  }

  static constexpr std::array<std::string_view, 4> kKeys{"timestamp", "input_length", "output_length",
                                                         "hash_ids"};
  JsonPull json_;
};

/// Azure and BurstGPT: a time and two counts among the columns.
class Table : public RequestParser {
 public:
  enum class Time : std::uint8_t { date, seconds };
  Table(Columns columns, Time time, std::string_view at, std::string_view input, std::string_view output)
      : columns_{std::move(columns)},
        time_{time},
        names_{std::string{at}, std::string{input}, std::string{output}} {
    for (std::size_t i = 0; i < 3; ++i) index_[i] = columns_.find(names_[i]);
  }
  bool complete() const { return *std::min_element(index_.begin(), index_.end()) >= 0; }

  void parse(std::string_view line, Request& r) override {
    columns_.read(line);
    r.blocks.clear();
    const std::string_view at = columns_.cell(index_[0]);
    r.arrival_ns = time_ == Time::date ? parse_date(at) : parse_seconds(names_[0], at);
    r.input_tokens = parse_tokens(names_[1], columns_.cell(index_[1]), 1);
    r.output_tokens = parse_tokens(names_[2], columns_.cell(index_[2]), 0);
  }

 protected:
  Columns columns_;

 private:
  Time time_;
  std::array<std::string, 3> names_;
  std::array<int, 3> index_{};
};

class Ours : public Table {
 public:
  explicit Ours(const Columns& columns)
      : Table{columns, Time::seconds, "arrival_s", "input_tokens", "output_tokens"},
        blocks_{columns.find("blocks")} {}

  void parse(std::string_view line, Request& r) override {
    Table::parse(line, r);
    if (blocks_ < 0) return;
    std::string_view text = columns_.cell(blocks_);
    while (!text.empty()) {
      std::uint64_t id = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
      if (error != std::errc{})
        throw Error{fmt::format("blocks: expected whole numbers apart by spaces, found {}", shown(text))};
      r.blocks.push_back(id);
      text.remove_prefix(static_cast<std::size_t>(end - text.data()));
      if (!text.empty() && text.front() != ' ')
        throw Error{fmt::format("blocks: expected a space, found {}", shown(text))};
      text = trimmed(text);
    }
    const std::int64_t blocks = (r.input_tokens + kMooncakeBlockTokens - 1) / kMooncakeBlockTokens;
    if (!r.blocks.empty() && static_cast<std::int64_t>(r.blocks.size()) != blocks) {
      throw Error{fmt::format("blocks: {} tokens take {} blocks of {}, found {}", r.input_tokens, blocks,
                              kMooncakeBlockTokens, r.blocks.size())};
    }
  }

 private:
  int blocks_;
};

std::unique_ptr<RequestParser> table(std::string_view header, Table::Time time, std::string_view at,
                                     std::string_view input, std::string_view output) {
  auto parser = std::make_unique<Table>(Columns{header}, time, at, input, output);
  if (!parser->complete()) return nullptr;
  return parser;
}

}  // namespace

std::int64_t parse_date(std::string_view text) {
  try {
    return date_of(text);
  } catch (const Error& e) {
    throw Error{
        fmt::format("TIMESTAMP: expected YYYY-MM-DD hh:mm:ss.fraction, found {}: {}", shown(text), e.what())};
  }
}

std::int64_t parse_seconds(std::string_view column, std::string_view text) {
  const auto wrong = [&](std::string_view what) {
    return Error{fmt::format("{}: {}, found {}", column, what, shown(text))};
  };
  if (!text.empty() && text.front() == '-') throw wrong("expected seconds that are not negative");
  std::int64_t whole = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), whole);
  if (error == std::errc::result_out_of_range || whole > kMostSeconds)
    throw wrong("expected at most 100 years");
  if (error != std::errc{}) throw wrong("expected seconds");
  std::string_view rest = text.substr(static_cast<std::size_t>(end - text.data()));
  std::int64_t ns = 0;
  try {
    ns = take_fraction(rest);
  } catch (const Error&) {
    throw wrong("expected seconds");
  }
  if (!rest.empty()) throw wrong("expected seconds");
  return whole * 1'000'000'000 + ns;
}

std::int64_t parse_tokens(std::string_view column, std::string_view text, std::int64_t least) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::invalid_argument || end != text.data() + text.size())
    throw Error{fmt::format("{}: expected a whole number, found {}", column, shown(text))};
  if (error != std::errc{} || value < least || value > kMostTokens)
    throw Error{fmt::format("{}: {} is not from {} to {}", column, text, least, kMostTokens)};
  return value;
}

std::unique_ptr<RequestParser> mooncake_parser() { return std::make_unique<Mooncake>(); }

std::unique_ptr<RequestParser> azure_parser(std::string_view header) {
  return table(header, Table::Time::date, "TIMESTAMP", "ContextTokens", "GeneratedTokens");
}

std::unique_ptr<RequestParser> burstgpt_parser(std::string_view header) {
  return table(header, Table::Time::seconds, "Timestamp", "Request tokens", "Response tokens");
}

std::unique_ptr<RequestParser> csv_parser(std::string_view header) {
  auto parser = std::make_unique<Ours>(Columns{header});
  if (!parser->complete()) return nullptr;
  return parser;
}

}  // namespace tessera::traces
