#pragma once
// A CSV file with positions: every complaint names file, line and column, and what was expected.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "configs/reader/document.hpp"

namespace tessera::validate {

class CsvTable;

/// One row. Cheap; valid while its table is.
class CsvRow {
 public:
  CsvRow(const CsvTable& table, std::size_t index) : table_{&table}, index_{index} {}

  int line() const;
  /// The text of a column that the header has.
  const std::string& text(std::string_view column) const;
  bool empty(std::string_view column) const { return text(column).empty(); }
  /// InputError unless the cell is a whole number of at least `least`.
  std::int64_t integer(std::string_view column, std::int64_t least = 1) const;
  /// InputError unless the cell is a finite number of at least `least`.
  double number(std::string_view column, double least = 0) const;
  /// InputError unless the cell is True or False, in any capitals, or 1 or 0.
  bool truth(std::string_view column) const;
  /// An InputError at a cell, or at the whole row if `column` is empty.
  config::InputError error(std::string_view column, std::string_view message) const;

 private:
  const CsvTable* table_;
  std::size_t index_;
};

class CsvTable {
 public:
  /// A header and its rows; blank lines are left out. InputError: no header, a column twice, a row with more
  /// or fewer cells than the header, an open quote.
  CsvTable(std::string_view text, std::filesystem::path file);

  const std::filesystem::path& file() const { return file_; }
  const std::vector<std::string>& header() const { return header_; }
  bool has(std::string_view column) const;
  bool has_all(const std::vector<std::string_view>& columns) const;
  std::size_t size() const { return rows_.size(); }
  CsvRow row(std::size_t index) const { return {*this, index}; }

 private:
  friend class CsvRow;
  struct Row {
    int line;
    std::vector<std::string> cells;
  };
  std::filesystem::path file_;
  std::vector<std::string> header_;
  std::vector<Row> rows_;
};

}  // namespace tessera::validate
