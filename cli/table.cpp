#include "cli/table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace tessera::cli {

namespace {

/// Three significant digits, without an exponent.
std::string significant(double value) {
  const double size = std::abs(value);
  return fmt::format("{:.{}f}", value, size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2);
}

template <std::size_t N>
std::string scaled(double value, double base, const std::array<const char*, N>& units) {
  std::size_t unit = 0;
  while (unit + 1 < N && std::abs(value) >= base * 0.99995) {
    value /= base;
    ++unit;
  }
  return fmt::format("{} {}", significant(value), units[unit]);
}

}  // namespace

void Table::group_alike() {
  const auto alike = [](const std::vector<std::string>& a, const std::vector<std::string>& b) {
    return a.size() == b.size() && std::equal(a.begin() + 1, a.end(), b.begin() + 1);
  };
  std::vector<std::vector<std::string>> grouped;
  for (std::size_t first = 0, next; first < rows_.size(); first = next) {
    next = first + 1;
    while (next < rows_.size() && !rows_[first].empty() && alike(rows_[first], rows_[next])) ++next;
    grouped.push_back(rows_[first]);
    if (next > first + 1)
      grouped.back()[0] = fmt::format("{} .. {} ({})", rows_[first][0], rows_[next - 1][0], next - first);
  }
  rows_ = std::move(grouped);
}

std::string Table::text() const {
  std::vector<std::size_t> widths;
  const auto measure = [&](const std::vector<std::string>& row) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  };
  measure(header_);
  for (const auto& row : rows_) measure(row);

  std::string text;
  const auto print = [&](const std::vector<std::string>& row) {
    std::string line = " ";
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += i == 0 ? fmt::format(" {:<{}}", row[i], widths[i]) : fmt::format("  {:>{}}", row[i], widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  print(header_);
  std::size_t total = 0;
  for (const std::size_t w : widths) total += w + 2;
  text.append("  ").append(total - 2, '-').append("\n");
  for (const auto& row : rows_) print(row);
  return text;
}

std::string duration_text(double us) {
  if (us == 0) return "0";
  return scaled(us * 1e3, 1e3, std::array{"ns", "us", "ms", "s"});
}

std::string bytes_text(double bytes) {
  if (bytes < 1024) return fmt::format("{:.0f} B", bytes);
  return scaled(bytes / 1024, 1024, std::array{"KiB", "MiB", "GiB", "TiB"});
}

std::string count_text(double count) {
  const std::string digits = fmt::format("{:.0f}", count);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const std::size_t left = digits.size() - i;
    if (i > 0 && left % 3 == 0 && digits[i - 1] != '-') text += ',';
    text += digits[i];
  }
  return text;
}

std::string percent_text(double share) { return fmt::format("{:.1f} %", share * 100); }

std::string energy_text(double joules) {
  if (joules == 0) return "0";
  return scaled(joules * 1e6, 1e3, std::array{"uJ", "mJ", "J", "kJ", "MJ"});
}

}  // namespace tessera::cli
