#include "configs/reader/calibration.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "configs/reader/hardware.hpp"

namespace tessera::config {

namespace {

constexpr const char* kUncalibrated = "uncalibrated";
constexpr double kHuge = 1e300;

const std::vector<std::string>& fidelity_names() {
  static const std::vector<std::string> names{"cycle", "cost"};
  return names;
}

// ---- Reading ----

struct HeldOutField {
  const char* key;
  double HeldOut::*member;
  double least;
};
constexpr HeldOutField kHeldOut[] = {{"mape_percent", &HeldOut::mape_percent, 0},
                                     {"median_ape_percent", &HeldOut::median_ape_percent, 0},
                                     {"p90_ape_percent", &HeldOut::p90_ape_percent, 0},
                                     {"max_ape_percent", &HeldOut::max_ape_percent, 0},
                                     {"bias_percent", &HeldOut::bias_percent, -100},
                                     {"log_mean", &HeldOut::log_mean, -kHuge},
                                     {"log_sd", &HeldOut::log_sd, 0}};

HeldOut read_held_out(const Value& map) {
  std::vector<std::string> keys{"count"};
  for (const HeldOutField& f : kHeldOut) keys.emplace_back(f.key);
  map.allow_only(keys);
  HeldOut h{.count = static_cast<std::size_t>(map.at("count").as_integer(1))};
  for (const HeldOutField& f : kHeldOut) h.*f.member = map.at(f.key).as_number(f.least, kHuge);
  return h;
}

Range read_range(const Value& list) {
  const std::vector<Value> items = list.items();
  if (items.size() != 2) throw list.error("expected two numbers: [least, most]");
  const Range r{items[0].as_number(0, kHuge), items[1].as_number(0, kHuge)};
  if (r.least > r.most) throw list.error("expected the least first");
  return r;
}

KindCalibration read_kind(const Value& map) {
  map.allow_only({"held_out", "flops", "bytes", "latency_us", "traits"});
  KindCalibration kind{.held_out = read_held_out(map.at("held_out")),
                       .flops = read_range(map.at("flops")),
                       .bytes = read_range(map.at("bytes")),
                       .latency_us = read_range(map.at("latency_us"))};
  for (const auto& [trait, values] : map.at("traits").entries()) {
    for (const Value& value : values.items()) kind.traits[trait].push_back(value.as_string());
  }
  return kind;
}

FidelityCalibration read_fidelity(const Value& map) {
  map.allow_only({"files", "rows_hash", "sample", "seed", "max_ms", "folds", "kinds", "groups"});
  FidelityCalibration f;
  for (const Value& file : map.at("files").items()) {
    file.allow_only({"name", "rows"});
    f.files.emplace_back(file.at("name").as_string(),
                         static_cast<std::size_t>(file.at("rows").as_integer(1)));
  }
  f.rows_hash = map.at("rows_hash").as_string();
  f.sample = static_cast<std::size_t>(map.at("sample").as_integer(0));
  f.seed = static_cast<std::uint64_t>(map.at("seed").as_integer(0));
  f.max_ms = map.at("max_ms").as_number(0, kHuge);
  f.folds = static_cast<int>(map.at("folds").as_integer(2, 1000));
  for (const auto& [kind, value] : map.at("kinds").entries()) f.kinds[kind] = read_kind(value);
  if (f.kinds.empty()) throw map.at("kinds").error("expected at least one kind");
  if (const auto groups = map.find("groups")) {
    for (const auto& [group, value] : groups->entries()) f.groups[group] = read_held_out(value);
  }
  return f;
}

// ---- Writing ----

/// A double-quoted YAML scalar.
std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// Seven digits: more would claim what no measurement has.
std::string number(double x) { return fmt::format("{:.7g}", x); }

std::string held_out_text(const HeldOut& h) {
  std::string text = fmt::format("{{count: {}", h.count);
  for (const HeldOutField& f : kHeldOut) text += fmt::format(", {}: {}", f.key, number(h.*f.member));
  return text + "}";
}

/// Exact: the extreme rows themselves lie inside.
std::string range_text(const Range& r) { return fmt::format("[{}, {}]", r.least, r.most); }

std::string block_text(const Calibration& c, const std::string& hash) {
  if (c.fidelities.empty()) return fmt::format("calibration: {}\n", kUncalibrated);
  std::string text =
      fmt::format("calibration:\n  base: {}\n  values_hash: {}\n", quoted(c.base), quoted(hash));
  for (const auto& [fidelity, f] : c.fidelities) {
    text += fmt::format("  {}:\n    files:\n", fidelity);
    for (const auto& [file, rows] : f.files)
      text += fmt::format("      - {{name: {}, rows: {}}}\n", quoted(file), rows);
    text += fmt::format(
        "    rows_hash: {}\n    sample: {}\n    seed: {}\n    max_ms: {}\n    folds: {}\n    kinds:\n",
        quoted(f.rows_hash), f.sample, f.seed, f.max_ms, f.folds);
    for (const auto& [kind, k] : f.kinds) {
      text += fmt::format("      {}:\n        held_out: {}\n", kind, held_out_text(k.held_out));
      text += fmt::format("        flops: {}\n        bytes: {}\n        latency_us: {}\n",
                          range_text(k.flops), range_text(k.bytes),
                          fmt::format("[{}, {}]", number(k.latency_us.least), number(k.latency_us.most)));
      std::vector<std::string> traits;
      for (const auto& [trait, values] : k.traits)
        traits.push_back(fmt::format("{}: [{}]", trait, fmt::join(values, ", ")));
      text += fmt::format("        traits: {{{}}}\n", fmt::join(traits, ", "));
    }
    if (f.groups.empty()) continue;
    text += "    groups:\n";
    for (const auto& [group, held_out] : f.groups)
      text += fmt::format("      {}: {}\n", group, held_out_text(held_out));
  }
  return text;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in{text};
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string joined(const std::vector<std::string>& lines) {
  return fmt::format("{}\n", fmt::join(lines, "\n"));
}

/// The end of the flow map that begins at `begin`, past its brace; npos if it goes on beyond the line.
std::size_t end_of_map(const std::string& line, std::size_t begin) {
  int depth = 0;
  char quote = 0;
  for (std::size_t i = begin; i < line.size(); ++i) {
    const char c = line[i];
    if (quote != 0) {
      if (c == '\\' && quote == '"') ++i;
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '{') {
      ++depth;
    } else if (c == '}' && --depth == 0) {
      return i + 1;
    }
  }
  return std::string::npos;
}

Value leaf_at(const Document& document, const std::string& key) {
  Value at = document.root();
  for (std::size_t begin = 0; begin <= key.size();) {
    const std::size_t dot = std::min(key.find('.', begin), key.size());
    at = at.at(key.substr(begin, dot - begin));
    begin = dot + 1;
  }
  return at;
}

/// Rewrites the line of one number.
void edit(std::vector<std::string>& lines, const Value& leaf, const Parameter& p) {
  std::string& line = lines.at(static_cast<std::size_t>(leaf.line()) - 1);
  const std::string key = p.key.substr(p.key.rfind('.') + 1) + ":";
  const std::size_t start = line.find_first_not_of(' ');
  const std::size_t open = start == std::string::npos ? start : line.find('{', start);
  const std::size_t end = open == std::string::npos ? open : end_of_map(line, open);
  if (end == std::string::npos || line.compare(start, key.size(), key) != 0 ||
      line.find_first_not_of(' ', start + key.size()) != open) {
    throw leaf.error(
        "calibrate changes only numbers that stand on one line: KEY: {value: N, source: \"...\"}");
  }
  std::string map = fmt::format("{{value: {}", p.value);
  for (const auto& [name, value] : leaf.entries()) {
    if (name == "source" || name == "note") map += fmt::format(", {}: {}", name, quoted(value.as_string()));
  }
  map += ", fitted: true";
  if (p.bounds) map += fmt::format(", bounds: [{}, {}]", p.bounds->low, p.bounds->high);
  if (p.standard_error) map += fmt::format(", standard_error: {:.3g}", *p.standard_error);
  line.replace(open, end - open, map + "}");
}

/// Replaces the top-level entry `key`, with all that is indented below it, by `block`.
void replace_entry(std::vector<std::string>& lines, int line, std::vector<std::string> block) {
  const auto begin = lines.begin() + (line - 1);
  const auto end = std::find_if(begin + 1, lines.end(),
                                [](const std::string& l) { return !l.empty() && l.front() != ' '; });
  const auto at = lines.erase(begin, end);
  lines.insert(at, std::make_move_iterator(block.begin()), std::make_move_iterator(block.end()));
}

/// The file must say what was meant to be written, and of everything else what it said before.
void check_written(const std::string& text, const std::filesystem::path& file, const Document& before,
                   const std::vector<Parameter>& meant) {
  const Document after = Document::parse(text, file);
  (void)read_gpu(after);
  if (read_calibration(after).stale)
    throw InputError{fmt::format("{}: could not be rewritten", file.string())};
  const std::vector<Parameter> old = parameters_of(before), now = parameters_of(after);
  bool equal = old.size() == now.size();
  for (std::size_t i = 0; equal && i < old.size(); ++i) {
    const auto changed =
        std::find_if(meant.begin(), meant.end(), [&](const Parameter& p) { return p.key == old[i].key; });
    equal = now[i].key == old[i].key &&
            now[i].value == (changed == meant.end() ? old[i].value : changed->value) &&
            now[i].fitted == (changed == meant.end() ? old[i].fitted : true);
  }
  if (!equal)
    throw InputError{fmt::format("{}: could not be rewritten: its values would change", file.string())};
}

}  // namespace

std::size_t FidelityCalibration::rows() const {
  std::size_t sum = 0;
  for (const auto& [file, rows] : files) sum += rows;
  return sum;
}

Calibration read_calibration(const Document& document) {
  const Value block = document.root().at("calibration");
  if (block.is_scalar()) {
    (void)block.as_one_of({kUncalibrated});
    return {};
  }
  block.allow_only({"base", "values_hash", "cycle", "cost"});
  Calibration c{.base = block.at("base").as_string(),
                .stale = block.at("values_hash").as_string() != values_hash(document)};
  for (const std::string& fidelity : fidelity_names()) {
    if (const auto map = block.find(fidelity)) c.fidelities[fidelity] = read_fidelity(*map);
  }
  if (c.fidelities.empty()) throw block.error("expected the fidelity that was calibrated: cycle or cost");
  return c;
}

std::string summary_of(const Calibration& calibration) {
  if (calibration.fidelities.empty()) return kUncalibrated;
  if (calibration.stale) return "uncalibrated (changed since it was calibrated)";
  std::vector<std::string> parts;
  for (const auto& [fidelity, f] : calibration.fidelities)
    parts.push_back(fmt::format("{}: {} rows", fidelity, f.rows()));
  return fmt::format("calibrated ({})", fmt::join(parts, ", "));
}

std::string with_calibration(const std::string& text, const std::filesystem::path& file,
                             const std::string& name, const std::vector<Parameter>& parameters,
                             const Calibration& calibration) {
  const Document before = Document::parse(text, file);
  std::vector<std::string> lines = lines_of(text);
  for (const Parameter& p : parameters) edit(lines, leaf_at(before, p.key), p);
  const Value root = before.root();
  lines.at(static_cast<std::size_t>(root.at("name").line()) - 1) = fmt::format("name: {}", name);
  const std::string hash = values_hash(Document::parse(joined(lines), file));
  replace_entry(lines, root.at("calibration").line(), lines_of(block_text(calibration, hash)));
  std::string written = joined(lines);
  check_written(written, file, before, parameters);
  return written;
}

}  // namespace tessera::config
