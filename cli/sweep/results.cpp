// tessera pareto, export, compare, merge: what is in the results of sweeps.

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <map>
#include <memory>
#include <set>

#include "cli/command.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "cli/sweep/pareto.hpp"
#include "cli/sweep/store.hpp"
#include "cli/table.hpp"
#include "configs/reader/document.hpp"

namespace tessera::cli {

namespace {

Json json_of(const Row& row, bool wall) {
  Json json{{"id", row.id},     {"fidelity", row.fidelity},  {"status", row.status},
            {"axes", row.axes}, {"metrics", Json::object()}, {"bottleneck", row.bottleneck}};
  for (std::size_t i = 0; i < kMetricCount; ++i) {
    if (row.metrics[i]) json["metrics"][kMetrics[i]] = *row.metrics[i];
  }
  json["stages"] = row.stages;
  json["error"] = row.error;
  json["config_hash"] = row.config_hash;
  if (wall) json["wall_s"] = row.wall_s;
  return json;
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string{"\"\""} : std::string(1, c);
  return quoted + "\"";
}

std::string csv_of(const std::vector<Row>& rows, bool wall) {
  std::vector<std::string> axes;
  std::array<bool, kMetricCount> used{};
  for (const Row& row : rows) {
    for (const auto& [key, value] : row.axes.items()) {
      if (std::find(axes.begin(), axes.end(), key) == axes.end()) axes.push_back(key);
    }
    for (std::size_t i = 0; i < kMetricCount; ++i) used[i] = used[i] || row.metrics[i].has_value();
  }
  std::string text = "id,fidelity,status";
  for (const std::string& axis : axes) text += "," + csv_field(axis);
  for (std::size_t i = 0; i < kMetricCount; ++i) {
    if (used[i]) text += fmt::format(",{}", kMetrics[i]);
  }
  text += std::string{",bottleneck,error,config_hash"} + (wall ? ",wall_s\n" : "\n");
  for (const Row& row : rows) {
    text += fmt::format("{},{},{}", row.id, row.fidelity, row.status);
    for (const std::string& axis : axes)
      text += "," + (row.axes.contains(axis) ? csv_field(row.axes.at(axis).get<std::string>()) : "");
    for (std::size_t i = 0; i < kMetricCount; ++i) {
      if (used[i]) text += row.metrics[i] ? fmt::format(",{}", *row.metrics[i]) : ",";
    }
    text +=
        fmt::format(",{},{},{}", csv_field(row.bottleneck), csv_field(row.error), csv_field(row.config_hash));
    text += wall ? fmt::format(",{}\n", row.wall_s) : "\n";
  }
  return text;
}

void write_text(const std::string& destination, const std::string& text) {
  if (destination == "-")
    fmt::print("{}", text);
  else
    write_whole(destination, text);
}

/// "latency_us:min,tokens_per_usd:max"
std::vector<Objective> parse_objectives(const std::string& text) {
  std::vector<Objective> objectives;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string one = text.substr(begin, end - begin);
    const std::size_t colon = one.find(':');
    const std::string metric = one.substr(0, colon),
                      way = colon == std::string::npos ? "min" : one.substr(colon + 1);
    const std::vector<std::string> known{kMetrics.begin(), kMetrics.end()};
    if (std::find(known.begin(), known.end(), metric) == known.end()) {
      const std::string near = config::nearest(metric, known);
      throw UsageError{fmt::format("--objectives: '{}' is no metric; {}", metric,
                                   near.empty() ? fmt::format("there is: {}", fmt::join(known, ", "))
                                                : fmt::format("did you mean '{}'?", near))};
    }
    if (way != "min" && way != "max")
      throw UsageError{fmt::format("--objectives: {}: expected min or max", one)};
    objectives.push_back({metric, way == "max"});
    begin = end + 1;
  }
  return objectives;
}

// ---- pareto

struct ParetoOptions {
  std::string file, objectives, fidelity, json;
};

void run_pareto(const ParetoOptions& options) {
  const Store store = Store::read_only(options.file);
  const std::vector<Objective> objectives =
      options.objectives.empty() ? objectives_in(store.about()) : parse_objectives(options.objectives);
  if (objectives.empty())
    throw UsageError{"pareto: the sweep stated no objectives: give --objectives latency_us:min,cost_usd:min"};
  std::vector<Row> rows = store.rows();
  // Of a funnel the closer look counts.
  std::string fidelity = options.fidelity;
  if (fidelity.empty())
    fidelity = std::any_of(rows.begin(), rows.end(), [](const Row& r) { return r.fidelity == "cycle"; })
                   ? "cycle"
                   : "cost";
  std::erase_if(rows, [&](const Row& r) { return r.fidelity != fidelity; });
  std::vector<std::size_t> front = pareto_front(rows, objectives);
  // Searches with other weights come upon the same designs.
  std::set<std::string> designs;
  std::erase_if(front, [&](std::size_t r) { return !designs.insert(rows[r].axes.dump()).second; });
  if (!options.json.empty()) {
    Json json{{"objectives", Json::object()}, {"fidelity", fidelity}, {"front", Json::array()}};
    for (const Objective& o : objectives) json["objectives"][o.metric] = o.most ? "max" : "min";
    for (const std::size_t r : front) json["front"].push_back(json_of(rows[r], false));
    write_json(options.json, json);
    if (options.json == "-") return;
  }
  std::vector<std::string> header{"point"};
  for (const Objective& o : objectives)
    header.push_back(fmt::format("{} ({})", o.metric, o.most ? "max" : "min"));
  header.emplace_back("bottleneck");
  std::vector<std::string> axes;
  for (const std::size_t r : front) {
    for (const auto& [key, value] : rows[r].axes.items()) {
      if (std::find(axes.begin(), axes.end(), key) == axes.end()) axes.push_back(key);
    }
  }
  header.insert(header.end(), axes.begin(), axes.end());
  Table table{header};
  for (const std::size_t r : front) {
    std::vector<std::string> cells{fmt::format("{}", rows[r].id)};
    for (const Objective& o : objectives) cells.push_back(fmt::format("{:.5g}", *rows[r].metric(o.metric)));
    cells.push_back(rows[r].bottleneck);
    for (const std::string& axis : axes) cells.push_back(rows[r].axes.value(axis, ""));
    table.add(cells);
  }
  fmt::print("{} of {} points at fidelity {} are on the front\n\n{}", front.size(), rows.size(), fidelity,
             table.text());
}

// ---- export

struct ExportOptions {
  std::string file, csv, json;
  bool wall = false;
};

void run_export(const ExportOptions& options) {
  if (options.csv.empty() == options.json.empty())
    throw UsageError{"export: give --csv FILE or --json FILE (- for standard output)"};
  require_writable("--csv", options.csv);
  require_writable("--json", options.json);
  const std::vector<Row> rows = Store::read_only(options.file).rows();
  if (!options.csv.empty()) return write_text(options.csv, csv_of(rows, options.wall));
  Json json = Json::array();
  for (const Row& row : rows) json.push_back(json_of(row, options.wall));
  write_json(options.json, json);
}

// ---- compare

/// One result: a point of a store, or a result of `tessera run --json`.
struct Result {
  std::string name, bottleneck;
  std::map<std::string, std::string> config;
  std::vector<std::pair<std::string, double>> metrics;
  std::map<std::string, std::vector<std::pair<std::string, double>>> stages;  // by phase, us
};

void flatten(const Json& json, const std::string& prefix, std::map<std::string, std::string>& out) {
  for (const auto& [key, value] : json.items()) {
    if (value.is_object())
      flatten(value, prefix + key + ".", out);
    else
      out[prefix + key] = value.is_string() ? value.get<std::string>() : value.dump();
  }
}

Result result_in(const std::string& name) {
  Result r{.name = name};
  const std::size_t hash = name.find('#');
  if (hash != std::string::npos) {
    std::string id = name.substr(hash + 1), fidelity;
    if (const std::size_t colon = id.find(':'); colon != std::string::npos) {
      fidelity = id.substr(colon + 1);
      id.erase(colon);
    }
    std::int64_t number = -1;
    const auto [end, status] = std::from_chars(id.data(), id.data() + id.size(), number);
    if (status != std::errc{} || end != id.data() + id.size())
      throw UsageError{fmt::format("{}: expected FILE#NUMBER", name)};
    const std::vector<Row> rows = Store::read_only(name.substr(0, hash)).rows();
    const Row* found = nullptr;  // the cycle model's, which comes later, before the cost model's
    for (const Row& row : rows) {
      if (row.id == number && (fidelity.empty() || row.fidelity == fidelity)) found = &row;
    }
    if (found == nullptr) {
      std::set<std::string> fidelities;
      for (const Row& row : rows) fidelities.insert(row.fidelity);
      throw UsageError{rows.empty()
                           ? fmt::format("{}: there is no such point, nor any other", name)
                           : fmt::format("{}: there is no such point; {} rows, from #{} to #{}, fidelity {}",
                                         name, rows.size(), rows.front().id, rows.back().id,
                                         fmt::join(fidelities, " and "))};
    }
    if (found->status == "failed")
      throw UsageError{fmt::format("{}: the point failed: {}", name, found->error)};
    r.bottleneck = found->bottleneck;
    r.config["fidelity"] = found->fidelity;
    flatten(found->axes, "", r.config);
    for (std::size_t i = 0; i < kMetricCount; ++i) {
      if (found->metrics[i]) r.metrics.emplace_back(kMetrics[i], *found->metrics[i]);
    }
    for (const auto& [phase, stages] : found->stages.items()) {
      for (const auto& [stage, us] : stages.items()) r.stages[phase].emplace_back(stage, us.get<double>());
    }
    return r;
  }
  std::ifstream in{name, std::ios::binary};
  const Json json = in ? Json::parse(in, nullptr, false) : Json();
  if (!json.is_object() || !json.contains("breakdown") || !json.contains("latency_us"))
    throw UsageError{fmt::format("{}: no result of tessera run --json, and no FILE.db#NUMBER", name)};
  r.bottleneck = json.value("bottleneck", "");
  for (const char* key : {"model", "fabric", "fidelity"}) r.config[key] = json.value(key, "");
  for (const char* key : {"hardware", "sharding", "workload"}) {
    if (json.contains(key)) flatten(json.at(key), std::string{key} + ".", r.config);
  }
  for (const char* metric : kMetrics) {
    if (json.contains(metric) && json.at(metric).is_number())
      r.metrics.emplace_back(metric, json.at(metric).get<double>());
  }
  for (const auto& [phase, parts] : json.at("breakdown").items()) {
    for (const auto& [stage, times] : parts.at("stages").items()) {
      if (const double us = times.at("critical_us"); us > 0) r.stages[phase].emplace_back(stage, us);
    }
    r.stages[phase].emplace_back("(launch)", parts.at("launch_us").get<double>());
  }
  return r;
}

std::string change_text(double a, double b) {
  if (a == b) return "=";
  return a == 0 ? "new" : fmt::format("{:+.1f} %", 100 * (b / a - 1));
}

struct CompareOptions {
  std::string a, b, json;
};

void run_compare(const CompareOptions& options) {
  const Result a = result_in(options.a), b = result_in(options.b);
  Json json{{"a", a.name},
            {"b", b.name},
            {"config", Json::object()},
            {"metrics", Json::object()},
            {"stages", Json::object()}};
  std::string text = fmt::format("A: {}\nB: {}\n\n", a.name, b.name);
  Table config{{"what differs", "A", "B"}};
  std::set<std::string> keys;
  for (const Result* r : {&a, &b})
    for (const auto& [key, value] : r->config) keys.insert(key);
  const auto config_of = [](const Result& r, const std::string& key) {
    const auto at = r.config.find(key);
    return at == r.config.end() ? std::string{"-"} : at->second;
  };
  for (const std::string& key : keys) {
    const std::string x = config_of(a, key), y = config_of(b, key);
    if (x == y) continue;
    config.add({key, x, y});
    json["config"][key] = {{"a", x}, {"b", y}};
  }
  if (a.bottleneck != b.bottleneck) config.add({"bottleneck", a.bottleneck, b.bottleneck});
  text += config.empty() ? "  the same configuration\n" : config.text();

  Table metrics{{"metric", "A", "B", "change"}};
  for (const auto& [name, x] : a.metrics) {
    const auto y = std::find_if(b.metrics.begin(), b.metrics.end(),
                                [&, n = name](const auto& m) { return m.first == n; });
    if (y == b.metrics.end()) continue;
    metrics.add(
        {name, fmt::format("{:.6g}", x), fmt::format("{:.6g}", y->second), change_text(x, y->second)});
    json["metrics"][name] = {{"a", x}, {"b", y->second}};
  }
  text += "\n" + metrics.text();
  for (const char* phase : {"prefill", "decode"}) {
    std::map<std::string, std::pair<double, double>> stages;
    const auto take = [&](const Result& r, double std::pair<double, double>::*side) {
      const auto at = r.stages.find(phase);
      if (at == r.stages.end()) return;
      for (const auto& [stage, us] : at->second) stages[stage].*side = us;
    };
    take(a, &std::pair<double, double>::first);
    take(b, &std::pair<double, double>::second);
    if (stages.empty()) continue;
    // What changed most first.
    std::vector<std::pair<std::string, std::pair<double, double>>> order{stages.begin(), stages.end()};
    std::stable_sort(order.begin(), order.end(), [](const auto& x, const auto& y) {
      return std::abs(x.second.second - x.second.first) > std::abs(y.second.second - y.second.first);
    });
    double difference = 0;
    for (const auto& [stage, us] : order) difference += us.second - us.first;
    Table table{{std::string{phase} + " stage", "A", "B", "difference", "share of it"}};
    for (const auto& [stage, us] : order) {
      const double d = us.second - us.first;
      table.add({stage, duration_text(us.first), duration_text(us.second),
                 (d < 0 ? "-" : "+") + duration_text(std::abs(d)),
                 difference != 0 ? percent_text(d / difference) : ""});
      json["stages"][phase][stage] = {{"a_us", us.first}, {"b_us", us.second}};
    }
    text += "\n" + table.text();
  }
  if (!options.json.empty()) write_json(options.json, json);
  if (options.json != "-") fmt::print("{}", text);
}

// ---- merge

struct MergeOptions {
  std::vector<std::string> files;
  std::string out;
};

void run_merge(const MergeOptions& options) {
  if (std::filesystem::exists(options.out))
    throw UsageError{fmt::format("--out {}: exists already", options.out)};
  require_writable("--out", options.out);
  std::map<std::string, std::string> about;
  for (const std::string& file : options.files) {
    const auto own = Store::read_only(file).about();
    if (!about.empty() && about.at("hash") != own.at("hash"))
      throw UsageError{fmt::format("{}: is of another sweep than {}", file, options.files.front())};
    about = own;
  }
  const std::string unfinished = options.out + ".merging";
  std::filesystem::remove(unfinished);
  std::size_t rows = 0;
  {
    Store out{unfinished};
    out.claim(about);
    for (const std::string& file : options.files) out.add(Store::read_only(file).rows());
    rows = out.known().size();
  }
  std::filesystem::rename(unfinished, options.out);
  fmt::print("{} rows of {} file{} in {}\n", count_text(static_cast<double>(rows)), options.files.size(),
             options.files.size() == 1 ? "" : "s", options.out);
}

}  // namespace

void add_pareto(CLI::App& app) {
  const auto options = std::make_shared<ParetoOptions>();
  Command command{app, "pareto", "The points of a sweep that no other beats"};
  command.option("RESULTS", options->file, "Results of tessera sweep").required();
  command.option("--objectives", options->objectives,
                 "latency_us:min,tokens_per_usd:max; default: the sweep's own");
  command.option("--fidelity", options->fidelity, "cost or cycle; default: cycle where there is any")
      .one_of({"cost", "cycle"});
  command.option("--json", options->json, "As JSON to a file, or - for standard output");
  command.obeyed_by([options] { run_pareto(*options); });
}

void add_export(CLI::App& app) {
  const auto options = std::make_shared<ExportOptions>();
  Command command{app, "export", "The rows of a sweep as CSV or JSON"};
  command.option("RESULTS", options->file, "Results of tessera sweep").required();
  command.option("--csv", options->csv, "To this file, or - for standard output");
  command.option("--json", options->json, "To this file, or - for standard output");
  command.flag("--wall", options->wall, "With the time each point took, which differs from run to run");
  command.obeyed_by([options] { run_export(*options); });
}

void add_compare(CLI::App& app) {
  const auto options = std::make_shared<CompareOptions>();
  Command command{app, "compare", "What changed between two results, by stage"};
  command.option("A", options->a, "results.db#12, results.db#12:cost, or a file of tessera run --json")
      .required();
  command.option("B", options->b, "The other one").required();
  command.option("--json", options->json, "As JSON to a file, or - for standard output");
  command.obeyed_by([options] { run_compare(*options); });
}

void add_merge(CLI::App& app) {
  const auto options = std::make_shared<MergeOptions>();
  Command command{app, "merge", "Join the shards of one sweep"};
  command.option("RESULTS", options->files, "Results of tessera sweep --shard").required();
  command.option("--out", options->out, "The file to make").required();
  command.obeyed_by([options] { run_merge(*options); });
}

}  // namespace tessera::cli
