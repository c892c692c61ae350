#pragma once
// Aligned plain-text tables, and numbers at a width people can read.

#include <cstdint>
#include <string>
#include <vector>

namespace tessera::cli {

/// The first column is left-aligned, the others right-aligned. Rows may be shorter than the header.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : header_{std::move(header)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  /// Rows that follow each other and differ in the first column only become one: "comp0 .. comp3 (4)".
  void group_alike();
  bool empty() const { return rows_.empty(); }
  /// Each line indented by two spaces; a rule of '-' under the header.
  std::string text() const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

std::string duration_text(double us);    ///< "873 ns", "12.3 us", "4.56 ms", "1.23 s"
std::string bytes_text(double bytes);    ///< "512 B", "1.50 KiB", ...
std::string count_text(double count);    ///< "1,234,567"
std::string percent_text(double share);  ///< 0.123 -> "12.3 %"
std::string energy_text(double joules);  ///< "1.23 mJ", ...

}  // namespace tessera::cli
