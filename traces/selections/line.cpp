#include "traces/selections/line.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace tessera::traces {

bool JsonLines::next() {
  while (std::getline(in_, text_)) {
    ++line_;
    if (text_.find_first_not_of(" \t\r") == std::string::npos) continue;
    object_ = nlohmann::json::parse(text_, nullptr, false);
    if (object_.is_discarded()) complain("not JSON");
    if (!object_.is_object()) complain("expected an object");
    return true;
  }
  if (in_.bad()) complain("cannot be read any further");
  return false;
}

void JsonLines::complain(const std::string& message) const {
  throw std::invalid_argument{fmt::format("{}:{}: {}", name_, line_, message)};
}

void JsonLines::require_keys(const std::vector<std::string_view>& keys) const {
  for (const auto& [key, value] : object_.items()) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end())
      complain(fmt::format("unknown key '{}'; expected {}", key, fmt::join(keys, ", ")));
  }
  for (const std::string_view key : keys)
    if (!object_.contains(key)) complain(fmt::format("'{}' is missing", key));
}

std::int64_t JsonLines::integer(const char* key, std::int64_t least, std::int64_t most) const {
  const nlohmann::json& value = object_.at(key);
  if (!value.is_number_integer())
    complain(fmt::format("{}: expected a whole number, not {}", key, value.dump()));
  const auto n = value.get<std::int64_t>();
  if (n < least || n > most) complain(fmt::format("{}: must be from {} to {}, not {}", key, least, most, n));
  return n;
}

std::pair<std::int64_t, std::int64_t> JsonLines::range(const char* key, std::int64_t most) const {
  const nlohmann::json& value = object_.at(key);
  if (!value.is_array() || value.size() != 2 || !value[0].is_number_integer() ||
      !value[1].is_number_integer())
    complain(fmt::format("{}: expected [first, end], not {}", key, value.dump()));
  const auto first = value[0].get<std::int64_t>(), end = value[1].get<std::int64_t>();
  if (first < 0 || end <= first || end > most)
    complain(fmt::format("{}: expected 0 <= first < end <= {}, not [{}, {}]", key, most, first, end));
  return {first, end};
}

void JsonLines::list(const char* key, std::int64_t end, std::vector<std::int32_t>& into) const {
  const nlohmann::json& value = object_.at(key);
  if (!value.is_array()) complain(fmt::format("{}: expected a list of whole numbers", key));
  into.clear();
  for (const nlohmann::json& item : value) {
    if (!item.is_number_integer())
      complain(fmt::format("{}: expected whole numbers, not {}", key, item.dump()));
    const auto n = item.get<std::int64_t>();
    if (n < 0 || n >= end)
      complain(fmt::format("{}: expected numbers from 0 to {}, not {}", key, end - 1, n));
    into.push_back(static_cast<std::int32_t>(n));
  }
  for (std::size_t i = 0; i < into.size(); ++i) {
    if (std::find(into.begin() + static_cast<std::ptrdiff_t>(i) + 1, into.end(), into[i]) != into.end())
      complain(fmt::format("{}: {} is listed twice", key, into[i]));
  }
}

Spread spread_of(std::vector<std::int64_t> counts) {
  const std::int64_t total = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  if (total == 0) return {};
  std::sort(counts.begin(), counts.end(), std::greater<>{});
  const auto hot = static_cast<std::ptrdiff_t>(std::max<std::size_t>(1, counts.size() / 10));
  const auto all = static_cast<double>(total);
  return {
      .imbalance = static_cast<double>(counts.front()) * static_cast<double>(counts.size()) / all,
      .hot_share =
          static_cast<double>(std::accumulate(counts.begin(), counts.begin() + hot, std::int64_t{0})) / all};
}

}  // namespace tessera::traces
