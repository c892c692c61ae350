// Tessera's own measurement files (docs/validation.md).

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "validate/formats.hpp"
#include "validate/shapes.hpp"

namespace tessera::validate {

namespace {

using nlohmann::json;

/// Objects nest two deep; a line of a million brackets is not worth parsing.
constexpr int kDeepest = 8;

json parse_line(std::string_view line, const std::function<config::InputError(const std::string&)>& fail) {
  const auto shallow = [](int depth, json::parse_event_t, json&) {
    if (depth > kDeepest) throw std::length_error{"nested too deeply"};
    return true;
  };
  try {
    return json::parse(line, shallow);
  } catch (const json::parse_error& e) {
    throw fail(fmt::format("not valid JSON, near column {}", e.byte));
  } catch (const json::exception&) {
    throw fail("a number is out of range");
  } catch (const std::length_error& e) {
    throw fail(e.what());
  }
}

/// An argument as the command line would have it.
std::string word(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.dump(-1, ' ', true);  // numbers and truth values; others are refused before
}

}  // namespace

void read_jsonl(std::string_view text, const std::filesystem::path& file, const ParseKernel& parse,
                Measurements& into) {
  int line_number = 0;
  const auto fail = [&](const std::string& message) {
    return config::InputError{fmt::format("{}:{}: {}", file.string(), line_number, message)};
  };
  while (!text.empty()) {
    ++line_number;
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;

    const json object = parse_line(line, fail);
    if (!object.is_object())
      throw fail("expected an object: {\"kind\": ..., \"args\": {...}, \"latency_us\": {...}}");
    const auto kind = object.find("kind"), args = object.find("args"), latency = object.find("latency_us");
    if (kind == object.end() || !kind->is_string()) throw fail("kind: expected a text, such as \"gemm\"");
    if (args == object.end() || !args->is_object())
      throw fail("args: expected an object, such as {\"m\": 512}");
    // What `tessera measure` could not time, or timed with kernels that no tile program stands for.
    bool left_out = false;
    for (const char* why : {"skipped", "failed", "unlike"}) {
      const auto reason = object.find(why);
      if (left_out || reason == object.end()) continue;
      if (!reason->is_string()) throw fail(std::string{why} + ": expected a text");
      into.skip(file, kind->get<std::string>(), fmt::format("{}: {}", why, reason->get<std::string>()));
      left_out = true;
    }
    if (left_out) continue;
    if (latency == object.end() || !latency->is_object() || !latency->contains("median"))
      throw fail("latency_us: expected an object with a median: {\"median\": 12.5}");
    const json& median = (*latency)["median"];
    if (!median.is_number() || !std::isfinite(median.get<double>()) || median.get<double>() <= 0)
      throw fail("latency_us.median: expected a number above 0");

    std::vector<std::pair<std::string, std::string>> arguments;
    for (const auto& [key, value] : args->items()) {
      if (!value.is_primitive() || value.is_null())
        throw fail("args: expected numbers, texts and truth values");
      arguments.emplace_back(key, word(value));
    }
    try {
      Measurement m = parse(kind->get<std::string>(), arguments);
      m.file = file;
      m.line = line_number;
      m.measured_us = median.get<double>();
      if (const auto timing = object.find("timing"); timing != object.end()) {
        if (*timing != "replay" && *timing != "device")
          throw fail("timing: expected \"replay\" or \"device\"");
        m.conditions.timing = *timing == "device" ? Timing::device : Timing::replay;
      }
      if (const auto stages = object.find("stages"); stages != object.end() && stages->is_array()) {
        for (const json& stage : *stages) {
          if (!stage.is_object() || !stage.contains("name") || !stage["name"].is_string() ||
              !stage.contains("median_us") || !stage["median_us"].is_number())
            throw fail("stages: expected objects with a name and median_us");
          m.stages.push_back({stage["name"].get<std::string>(), stage["median_us"].get<double>()});
        }
      }
      require_possible(m, fail);
      into.rows.push_back(std::move(m));
    } catch (const std::domain_error& e) {
      into.skip(file, kind->get<std::string>(), e.what());
    } catch (const std::invalid_argument& e) {
      throw fail(e.what());
    }
  }
}

}  // namespace tessera::validate
