#include "cli/kernel_arguments.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <stdexcept>
#include <variant>

#include "cli/command.hpp"
#include "cli/kernel_kinds.hpp"
#include "configs/reader/document.hpp"

namespace tessera::cli {

namespace {

// Keys that every kind takes.
const std::vector<Key> kCommonKeys{
    {"dtype", "bf16"}, {"data", "random"}, {"l2", "warm"}, {"launch", "graph"}};

// Kinds of the design that this build cannot simulate.
const std::vector<std::string> kLaterKinds{"all_reduce", "all_gather", "reduce_scatter", "all_to_all",
                                           "send_recv"};

std::vector<std::string> kind_names() {
  std::vector<std::string> names;
  for (const Kind& k : kinds()) names.emplace_back(k.name);
  return names;
}

const Kind& find_kind(const std::string& name) {
  const auto found =
      std::find_if(kinds().begin(), kinds().end(), [&](const Kind& k) { return k.name == name; });
  if (found != kinds().end()) return *found;
  const std::string can = fmt::format("this build has: {}", fmt::join(kind_names(), ", "));
  if (is_later_kind(name)) {
    throw UsageError{fmt::format("kernel {}: not in this build; {}", name, can)};
  }
  const std::string near = config::nearest(name, kind_names());
  throw UsageError{fmt::format("kernel: unknown kind '{}'; {}{}", name,
                               near.empty() ? "" : fmt::format("did you mean '{}'? ", near), can)};
}

std::vector<Key> keys_of(const Kind& kind) {
  std::vector<Key> keys = kind.keys;
  if (!kind.drives_hbm) keys.insert(keys.end(), kCommonKeys.begin(), kCommonKeys.end());
  return keys;
}

std::string keys_text(const std::vector<Key>& keys) {
  std::vector<std::string> words;
  for (const Key& k : keys)
    words.push_back(k.value == kRequired ? k.name : fmt::format("{}={}", k.name, k.value));
  return fmt::format("{}", fmt::join(words, " "));
}

}  // namespace

bool is_later_kind(const std::string& kind) {
  return std::find(kLaterKinds.begin(), kLaterKinds.end(), kind) != kLaterKinds.end();
}

const std::vector<KernelKind>& kernel_kinds() {
  static const std::vector<KernelKind> all = [] {
    std::vector<KernelKind> list;
    for (const Kind& k : kinds()) list.push_back({k.name, keys_text(k.keys), k.summary});
    return list;
  }();
  return all;
}

KernelRequest parse_kernel(const std::string& kind_name, const std::vector<std::string>& arguments) {
  const Kind& kind = find_kind(kind_name);
  const std::vector<Key> keys = keys_of(kind);
  std::vector<std::string> names;
  for (const Key& k : keys) names.emplace_back(k.name);

  std::map<std::string, std::string> values;
  for (const std::string& argument : arguments) {
    const std::size_t equals = argument.find('=');
    const std::string key = argument.substr(0, equals);
    if (equals == std::string::npos || equals == 0 || equals + 1 == argument.size()) {
      throw UsageError{fmt::format("kernel {}: expected key=value, not '{}'", kind_name, argument)};
    }
    if (std::find(names.begin(), names.end(), key) == names.end()) {
      const std::string near = config::nearest(key, names);
      throw UsageError{
          fmt::format("kernel {}: unknown key '{}'; {}", kind_name, key,
                      near.empty() ? "keys: " + keys_text(keys) : fmt::format("did you mean '{}'?", near))};
    }
    if (!values.emplace(key, argument.substr(equals + 1)).second) {
      throw UsageError{fmt::format("kernel {}: {} is given twice", kind_name, key)};
    }
  }
  std::vector<std::string> missing;
  for (const Key& k : keys) {
    if (k.value == kRequired && !values.contains(k.name)) missing.emplace_back(k.name);
  }
  if (!missing.empty()) {
    throw UsageError{
        fmt::format("kernel {}: missing {}; keys: {}", kind_name, fmt::join(missing, ", "), keys_text(keys))};
  }
  for (const Key& k : keys) {
    if (values.contains(k.name)) continue;
    const auto other = values.find(k.value);
    values[k.name] = other == values.end() ? k.value : other->second;
  }

  KernelRequest request{.kind = kind_name, .op = models::Copy{}};
  const Arguments checked{kind_name, values};
  for (const Key& k : keys) request.arguments.emplace_back(k.name, values.at(k.name));
  const Work work = kind.build(checked);
  if (const auto* stream = std::get_if<sim::HbmStream>(&work)) {
    request.hbm_stream = *stream;
    return request;
  }
  request.op = std::get<models::Operator>(work);
  try {
    models::check(request.op);
  } catch (const std::invalid_argument& e) {
    throw UsageError{fmt::format("kernel {}", e.what())};
  }
  request.options.graph = checked.choice<bool>("launch", {{"graph", true}, {"host", false}});
  request.options.random_data = checked.choice<bool>("data", {{"random", true}, {"zeros", false}});
  request.options.replayed = checked.choice<bool>("l2", {{"warm", true}, {"cold", false}});
  if (request.options.replayed) {
    for (std::uint32_t i = 0; i < models::operands_of(request.op).size(); ++i)
      request.options.warm_operands.push_back(i);
  }
  return request;
}

}  // namespace tessera::cli
