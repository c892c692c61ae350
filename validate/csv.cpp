#include "validate/csv.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

namespace tessera::validate {

namespace {

/// A cell for a message: short, and without control characters.
std::string shown(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 40)) out += std::iscntrl(static_cast<unsigned char>(c)) != 0 ? '?' : c;
  return text.size() > 40 ? out + "..." : out;
}

/// The cells of one line. False if a quote is left open.
bool split(std::string_view line, std::vector<std::string>& cells) {
  cells.assign(1, "");
  bool quoted = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quoted && c == '"' && i + 1 < line.size() && line[i + 1] == '"') {
      cells.back() += '"';
      ++i;
    } else if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      cells.emplace_back();
    } else {
      cells.back() += c;
    }
  }
  for (std::string& cell : cells) {
    while (!cell.empty() && (cell.back() == ' ' || cell.back() == '\t')) cell.pop_back();
    cell.erase(0, std::min(cell.find_first_not_of(" \t"), cell.size()));
  }
  return !quoted;
}

template <class T>
std::optional<T> parsed(const std::string& text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

CsvTable::CsvTable(std::string_view text, std::filesystem::path file) : file_{std::move(file)} {
  int line_number = 0;
  const auto fail = [&](const std::string& message) {
    return config::InputError{fmt::format("{}:{}: {}", file_.string(), std::max(line_number, 1), message)};
  };
  while (!text.empty()) {
    ++line_number;
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    std::vector<std::string> cells;
    if (!split(line, cells)) throw fail("a quote is not closed on its line");
    if (header_.empty()) {
      header_ = std::move(cells);
      for (auto column = header_.begin(); column != header_.end(); ++column) {
        if (std::find(header_.begin(), column, *column) != column)
          throw fail(fmt::format("column '{}' is there twice", shown(*column)));
      }
      continue;
    }
    if (cells.size() != header_.size()) {
      throw fail(fmt::format("expected {} cells, as in the header, not {}", header_.size(), cells.size()));
    }
    rows_.push_back({line_number, std::move(cells)});
  }
  if (header_.empty()) throw fail("the file is empty: expected a header");
}

bool CsvTable::has(std::string_view column) const {
  return std::find(header_.begin(), header_.end(), column) != header_.end();
}

bool CsvTable::has_all(const std::vector<std::string_view>& columns) const {
  return std::all_of(columns.begin(), columns.end(), [&](std::string_view c) { return has(c); });
}

int CsvRow::line() const { return table_->rows_[index_].line; }

const std::string& CsvRow::text(std::string_view column) const {
  const auto& header = table_->header_;
  const auto at = std::find(header.begin(), header.end(), column);
  if (at == header.end()) throw error(column, "the column is missing");
  return table_->rows_[index_].cells[static_cast<std::size_t>(at - header.begin())];
}

config::InputError CsvRow::error(std::string_view column, std::string_view message) const {
  return config::InputError{fmt::format("{}:{}: {}{}{}", table_->file_.string(), line(), column,
                                        column.empty() ? "" : ": ", message)};
}

std::int64_t CsvRow::integer(std::string_view column, std::int64_t least) const {
  const std::string& cell = text(column);
  const auto value = parsed<std::int64_t>(cell);
  // Far beyond any shape, and small enough that products of two do not overflow.
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  if (!value || *value < least || *value > kMost)
    throw error(column, fmt::format("expected a whole number from {} to 2^31, not '{}'", least, shown(cell)));
  return *value;
}

double CsvRow::number(std::string_view column, double least) const {
  const std::string& cell = text(column);
  const auto value = parsed<double>(cell);
  if (!value || !std::isfinite(*value) || *value < least)
    throw error(column, fmt::format("expected a number of at least {}, not '{}'", least, shown(cell)));
  return *value;
}

bool CsvRow::truth(std::string_view column) const {
  std::string cell = text(column);
  std::transform(cell.begin(), cell.end(), cell.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (cell == "true" || cell == "1") return true;
  if (cell == "false" || cell == "0") return false;
  throw error(column, fmt::format("expected True or False, not '{}'", shown(text(column))));
}

}  // namespace tessera::validate
