#include "cli/published.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "cli/command.hpp"
#include "cli/config_files.hpp"
#include "cli/kernel_arguments.hpp"
#include "cli/output.hpp"
#include "cli/progress.hpp"
#include "cli/table.hpp"
#include "configs/reader/document.hpp"
#include "configs/reader/hardware.hpp"
#include "kernels/microbench/microbench.hpp"
#include "sim/system/kernel_profile.hpp"

namespace tessera::cli {

namespace {

namespace fs = std::filesystem;

struct Figure {
  std::string name, hardware, unit, source, note;
  std::int64_t in_flight_bytes = 65536;
  std::optional<KernelRequest> kernel;   // else the microbenchmark `name`
  bool bandwidth = false;                // of a kernel: HBM bytes over latency, else the latency
  std::optional<double> published;       // none: reported only
  double tolerance_percent = 0;
  double simulated = 0;

  double error_percent() const { return 100 * (simulated / *published - 1); }
  bool outside() const { return published && std::abs(error_percent()) > tolerance_percent; }
};

std::vector<fs::path> published_files() {
  std::vector<fs::path> files;
  for (const fs::path& root : config_roots()) {
    const fs::path folder = root.parent_path() / "validate" / "published";
    if (!fs::is_directory(folder)) continue;
    for (const auto& entry : fs::directory_iterator{folder})
      if (entry.path().extension() == ".yaml") files.push_back(entry.path());
    break;
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) throw UsageError{"--published: there is no validate/published/*.yaml"};
  return files;
}

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    if (end > begin) words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

Figure read_figure(const config::Value& at) {
  at.allow_only({"microbench", "kernel", "measure", "hardware", "in_flight_bytes", "value", "unit", "tolerance_percent",
                 "source", "note"});
  Figure f;
  f.hardware = at.at("hardware").as_string();
  f.unit = at.at("unit").as_string();
  f.source = at.at("source").as_string();
  if (const auto note = at.find("note")) f.note = note->as_string();
  if (const auto value = at.find("value")) {
    f.published = value->as_number(1e-30, 1e30);
    f.tolerance_percent = at.at("tolerance_percent").as_number(0, 1000);
  }
  if (const auto bytes = at.find("in_flight_bytes")) f.in_flight_bytes = bytes->as_integer(1, 1 << 30);
  if (const auto kernel = at.find("kernel")) {
    f.name = kernel->as_string();
    std::vector<std::string> words = words_of(f.name);
    if (words.empty()) throw kernel->error("expected a kind and its keys");
    const std::string kind = words.front();
    words.erase(words.begin());
    f.kernel = parse_kernel(kind, words);
    f.bandwidth = at.at("measure").as_one_of({"latency", "hbm_bandwidth"}) == "hbm_bandwidth";
  } else {
    f.name = at.at("microbench").as_string();
    const auto& kinds = kernels::microbench_kinds();
    const auto kind = std::find_if(kinds.begin(), kinds.end(), [&](const auto& k) { return k.name == f.name; });
    if (kind == kinds.end()) throw at.at("microbench").error("there is no such microbenchmark");
    if (f.unit != kind->unit) throw at.at("unit").error(fmt::format("expected {}", kind->unit));
  }
  return f;
}

sim::KernelResult simulate(const Figure& f, const GpuSpec& gpu) {
  if (f.kernel) return sim::simulate_kernel(gpu, f.kernel->op, f.kernel->options);
  kernels::Microbench bench = kernels::make_microbench(f.name, gpu, f.in_flight_bytes);
  std::vector<std::unique_ptr<tile::Kernel>> launches;
  launches.push_back(std::move(bench.kernel));
  std::vector<sim::AddressRange> warm;
  if (bench.warm_bytes > 0) warm.push_back({bench.warm_address, bench.warm_bytes});
  return sim::simulate_launches(gpu, std::move(launches), warm, 0, {});
}

double value_of(const Figure& f, const GpuSpec& gpu, const sim::KernelResult& r) {
  if (f.kernel)
    return f.bandwidth ? static_cast<double>(r.hbm_read_bytes + r.hbm_write_bytes) / r.latency.ns() : r.latency.us();
  return kernels::make_microbench(f.name, gpu, f.in_flight_bytes).value(r.execution.seconds(), r.clock_mhz * 1e6);
}

std::string label(const Figure& f) {
  return f.in_flight_bytes == 65536 ? f.name : fmt::format("{} ({} KiB in flight)", f.name, f.in_flight_bytes / 1024);
}

void print(const std::vector<Figure>& figures) {
  Table table{{"figure", "hardware", "unit", "published", "simulated", "error", "allowed"}};
  for (const Figure& f : figures) {
    table.add({label(f), f.hardware, f.unit, f.published ? fmt::format("{:.4g}", *f.published) : "-",
               fmt::format("{:.4g}", f.simulated), f.published ? fmt::format("{:+.1f} %", f.error_percent()) : "-",
               f.published ? fmt::format("{:.0f} %{}", f.tolerance_percent, f.outside() ? " MISSED" : "") : "-"});
  }
  fmt::print("{}\n", table.text());
  for (const Figure& f : figures) {
    if (f.published) fmt::print("  {}: {}{}{}\n", label(f), f.source, f.note.empty() ? "" : "; ", f.note);
  }
}

Json to_json(const std::vector<Figure>& figures) {
  Json json;
  json["published"] = Json::array();
  for (const Figure& f : figures) {
    Json row;
    row["figure"] = f.name;
    row["hardware"] = f.hardware;
    row["unit"] = f.unit;
    if (!f.kernel) row["in_flight_bytes"] = f.in_flight_bytes;
    row["simulated"] = f.simulated;
    if (f.published) {
      row["published"] = *f.published;
      row["error_percent"] = f.error_percent();
      row["tolerance_percent"] = f.tolerance_percent;
      row["within"] = !f.outside();
    }
    row["source"] = f.source;
    if (!f.note.empty()) row["note"] = f.note;
    json["published"].push_back(row);
  }
  return json;
}

}  // namespace

void run_published(const std::vector<fs::path>& files, int processes, const std::string& json) {
  std::vector<Figure> figures;
  for (const fs::path& file : files.empty() ? published_files() : files) {
    const auto document = config::Document::read(file);
    document.root().allow_only({"name", "description", "figures"});
    for (const config::Value& at : document.root().at("figures").items()) figures.push_back(read_figure(at));
  }
  std::map<std::string, GpuSpec> gpus;
  for (const Figure& f : figures) {
    if (!gpus.contains(f.hardware))
      gpus[f.hardware] = config::read_gpu(resolve_config("hardware", f.hardware, "hardware"));
  }
  std::vector<sim::KernelJob> jobs;
  for (std::size_t i = 0; i < figures.size(); ++i) {
    const Figure& f = figures[i];
    jobs.push_back({.gpu = &gpus.at(f.hardware),
                    .op = f.kernel ? f.kernel->op : models::Operator{models::Copy{.bytes = 1}},
                    .key = std::to_string(i)});
  }
  Progress progress;
  const std::vector<sim::KernelResult> results = sim::simulate_all(
      jobs, processes, [&](const sim::KernelJob& job) { return simulate(figures[std::stoul(job.key)], *job.gpu); },
      [&](const sim::WorkDone& work) { progress.update(work); });
  for (std::size_t i = 0; i < figures.size(); ++i)
    figures[i].simulated = value_of(figures[i], *jobs[i].gpu, results[i]);

  if (!json.empty()) write_json(json, to_json(figures));
  if (json != "-") print(figures);
  const auto missed = std::count_if(figures.begin(), figures.end(), [](const Figure& f) { return f.outside(); });
  if (missed > 0) throw ToleranceError{fmt::format("{} published figures are missed by more than is allowed", missed)};
}

}  // namespace tessera::cli
