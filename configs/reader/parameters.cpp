#include "configs/reader/parameters.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>

#include "configs/reader/hardware.hpp"

namespace tessera::config {

namespace {

std::optional<double> number_in(const Value& value) {
  if (!value.is_scalar()) return std::nullopt;
  const std::string text = value.as_string();
  double x = 0;
  const auto [rest, status] = std::from_chars(text.data(), text.data() + text.size(), x);
  if (status != std::errc{} || rest != text.data() + text.size() || !std::isfinite(x)) return std::nullopt;
  return x;
}

bool is_true(const Value& leaf, const char* key) {
  const auto value = leaf.find(key);
  return value && value->as_bool();
}

Bounds read_bounds(const Value& bounds) {
  const std::vector<Value> items = bounds.items();
  if (items.size() != 2) throw bounds.error("expected two numbers: [low, high]");
  const Bounds b{items[0].as_number(), items[1].as_number()};
  if (!(b.low < b.high))
    throw bounds.error(fmt::format("expected the lower bound first, not [{}, {}]", b.low, b.high));
  return b;
}

/// Calls `visit` with every {value, ...} map at or below `at`, in the order of the file.
void for_each_leaf(const Value& at, const std::function<void(const Value&)>& visit) {
  if (!at.is_map()) return;
  if (at.find("value")) return visit(at);
  for (const auto& [key, inside] : at.entries()) {
    if (at.path().empty() && (key == "calibration" || key == "manufacture")) continue;
    for_each_leaf(inside, visit);
  }
}

std::string value_text(const Value& value) {
  if (value.is_sequence()) {
    std::string text;
    for (const Value& item : value.items()) text += value_text(item) + ",";
    return text;
  }
  const auto number = number_in(value);
  return number ? fmt::format("{}", *number) : value.as_string();
}

}  // namespace

std::vector<Parameter> parameters_of(const Document& document) {
  std::vector<Parameter> parameters;
  for_each_leaf(document.root(), [&](const Value& leaf) {
    const auto value = number_in(leaf.at("value"));
    if (!value) return;
    Parameter p{.key = leaf.path(), .value = *value, .fitted = is_true(leaf, "fitted")};
    if (const auto bounds = leaf.find("bounds")) p.bounds = read_bounds(*bounds);
    if (const auto error = leaf.find("standard_error")) p.standard_error = error->as_number(0, 1e18);
    parameters.push_back(std::move(p));
  });
  return parameters;
}

void check_fit(const Value& leaf) {
  const bool fitted = is_true(leaf, "fitted");
  const auto bounds = leaf.find("bounds");
  if (fitted && !bounds) throw leaf.error("a fitted number needs its bounds: [low, high]");
  if (const auto error = leaf.find("standard_error")) {
    if (!fitted) throw error->error("only a fitted number has a standard error");
    (void)error->as_number(0, 1e18);
  }
  if (!bounds) return;
  const Bounds b = read_bounds(*bounds);
  const Value value = leaf.at("value");
  const double x = value.as_number();
  if (!value.overridden() && (x < b.low || x > b.high))
    throw value.error(fmt::format("must lie within its bounds [{}, {}], not {}", b.low, b.high, x));
}

void check_fitted_count(const Document& document) {
  std::size_t count = 0;
  for_each_leaf(document.root(), [&](const Value& leaf) {
    if (is_true(leaf, "fitted") && ++count > kMostFitted)
      throw leaf.error(
          fmt::format("more than {} fitted numbers: a GPU may have at most that many", kMostFitted));
  });
}

GpuSpec gpu_with(Document& document, const std::vector<std::string>& keys,
                 const std::vector<double>& values) {
  for (std::size_t i = 0; i < keys.size(); ++i)
    document.set(keys[i] + ".value", fmt::format("{}", values[i]));
  return read_gpu(document);
}

std::string values_hash(const Document& document) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a
  const auto add = [&](const std::string& text) {
    for (const char c : text + ";") hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  };
  if (const auto architecture = document.root().find("architecture")) add(architecture->as_string());
  // Sorted, so that the order of the file does not matter.
  std::vector<std::string> values;
  for_each_leaf(document.root(), [&](const Value& leaf) {
    if (leaf.path() != "price_usd_per_hour")
      values.push_back(leaf.path() + "=" + value_text(leaf.at("value")));
  });
  std::sort(values.begin(), values.end());
  for (const std::string& value : values) add(value);
  return fmt::format("{:016x}", hash);
}

}  // namespace tessera::config
