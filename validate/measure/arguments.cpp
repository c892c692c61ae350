#include "validate/measure/arguments.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <stdexcept>

#include "configs/reader/document.hpp"
#include "validate/words.hpp"

namespace tessera::measure {

using validate::words_of;

std::string Request::text() const {
  std::string all = kind;
  for (const auto& [key, value] : given) all += fmt::format(" {}={}", key, value);
  return all;
}

std::vector<Request> expand(const std::string& words) {
  const std::vector<std::string> parts = words_of(words);
  if (parts.empty())
    throw std::invalid_argument{"expected a kind and its keys, such as \"gemm m=512 n=512 k=512\""};
  std::vector<Request> all{{.kind = parts.front()}};
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const std::size_t equals = parts[i].find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == parts[i].size())
      throw std::invalid_argument{fmt::format("expected key=value, not '{}'", parts[i])};
    const std::string key = parts[i].substr(0, equals);
    for (const auto& [other, value] : all.front().given)
      if (other == key) throw std::invalid_argument{fmt::format("{} is given twice", key)};
    std::vector<Request> longer;
    for (const Request& request : all) {
      for (const std::string& value : words_of(parts[i].substr(equals + 1), ',')) {
        longer.push_back(request);
        longer.back().given.emplace_back(key, value);
      }
    }
    all = std::move(longer);
  }
  return all;
}

Arguments::Arguments(const Request& request, const std::vector<Key>& keys) : kind_{request.kind} {
  std::vector<std::string> names;
  for (const Key& key : keys) names.emplace_back(key.name);
  for (const auto& [key, value] : request.given) {
    if (std::find(names.begin(), names.end(), key) != names.end()) continue;
    const std::string near = config::nearest(key, names);
    throw std::invalid_argument{fmt::format("{}: unknown key '{}'; {}", kind_, key,
                                            near.empty() ? fmt::format("keys: {}", fmt::join(names, " "))
                                                         : fmt::format("did you mean '{}'?", near))};
  }
  const auto given = [&](const std::string& name) {
    return std::find_if(request.given.begin(), request.given.end(),
                        [&](const auto& pair) { return pair.first == name; });
  };
  for (const Key& key : keys) {
    if (const auto own = given(key.name); own != request.given.end()) {
      values_.push_back(*own);
    } else if (key.value == nullptr) {
      throw std::invalid_argument{
          fmt::format("{}: missing {}; keys: {}", kind_, key.name, fmt::join(names, " "))};
    } else {
      // Another key's value, given or itself a default.
      const auto other = std::find_if(values_.begin(), values_.end(),
                                      [&](const auto& pair) { return pair.first == key.value; });
      values_.emplace_back(key.name, other == values_.end() ? key.value : other->second);
    }
  }
}

const std::string& Arguments::text(const std::string& key) const {
  const auto at =
      std::find_if(values_.begin(), values_.end(), [&](const auto& pair) { return pair.first == key; });
  if (at == values_.end()) throw std::invalid_argument{fmt::format("{}: no key '{}'", kind_, key)};
  return at->second;
}

std::int64_t Arguments::integer(const std::string& key) const {
  const std::string& word = text(key);
  std::int64_t value = 0;
  const char* const last = word.data() + word.size();
  const auto [end, error] = std::from_chars(word.data(), last, value);
  const std::string unit{end, last};
  const int shift = unit.empty() ? 0 : unit == "Ki" ? 10 : unit == "Mi" ? 20 : unit == "Gi" ? 30 : -1;
  if (error != std::errc{} || shift < 0 || value <= 0 || value > (std::int64_t{1} << 40) >> shift)
    throw std::invalid_argument{
        fmt::format("{}: {}: expected a whole number above 0 (4096, or 4Ki), not '{}'", kind_, key, word)};
  return value << shift;
}

std::string Arguments::choice(const std::string& key, const std::vector<std::string>& choices) const {
  const std::string& word = text(key);
  if (std::find(choices.begin(), choices.end(), word) == choices.end())
    throw std::invalid_argument{
        fmt::format("{}: {}: expected {}, not '{}'", kind_, key, fmt::join(choices, " or "), word)};
  return word;
}

bool Arguments::truth(const std::string& key) const { return choice(key, {"true", "false"}) == "true"; }

}  // namespace tessera::measure
