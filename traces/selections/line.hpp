#pragma once
// A line of a recorded trace: one JSON object with known keys of whole numbers and lists of them.

#include <cstdint>
#include <istream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::traces {

/// Lines one at a time: memory does not grow with the file. Empty lines are passed over.
class JsonLines {
 public:
  /// `name` begins every complaint.
  JsonLines(std::istream& in, std::string name) : in_{in}, name_{std::move(name)} {}

  /// The next line's object; false at the end.
  bool next();
  /// "NAME:LINE: message", as std::invalid_argument.
  [[noreturn]] void complain(const std::string& message) const;

  /// Complains of a key that is none of these, with the nearest, and of one that is missing.
  void require_keys(const std::vector<std::string_view>& keys) const;
  std::int64_t integer(const char* key, std::int64_t least, std::int64_t most) const;
  /// [first, end) with least <= first < end <= most.
  std::pair<std::int64_t, std::int64_t> range(const char* key, std::int64_t most) const;
  /// Different whole numbers from 0 to below `end`.
  void list(const char* key, std::int64_t end, std::vector<std::int32_t>& into) const;

 private:
  std::istream& in_;
  std::string name_, text_;
  std::int64_t line_ = 0;
  nlohmann::json object_;
};

/// The maximum over the mean (1: even), and the share of the total that the fullest tenth has (at least one).
struct Spread {
  double imbalance = 1, hot_share = 0;
};
Spread spread_of(std::vector<std::int64_t> counts);

}  // namespace tessera::traces
