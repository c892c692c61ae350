#include "cli/published.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
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
#include "sim/system/kernel_cost.hpp"
#include "sim/system/kernel_profile.hpp"

namespace tessera::cli {

namespace {

namespace fs = std::filesystem;

/// One run of the suite.
struct Run {
  std::string name, unit;
  std::int64_t in_flight_bytes = 65536;
  std::optional<KernelRequest> kernel;  // else the microbenchmark `kind`
  const kernels::MicrobenchKind* kind = nullptr;
  enum class Measure { latency, latency_ms, hbm_bandwidth, tflops } measure = Measure::latency;  // of a kernel
  bool cost = false;  // by the cost model: too long for the cycle model
  std::uint32_t variants() const { return kind != nullptr ? kind->variants : 1; }
};

/// A run on one GPU, beside what is published.
struct Figure {
  const Run* run = nullptr;
  std::string hardware, source, note;
  std::optional<double> published;  // none: reported only
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

Run read_run(const std::string& name, const config::Value& at) {
  at.allow_only({"microbench", "kernel", "measure", "fidelity", "launches", "in_flight_bytes"});
  Run run{.name = name};
  if (const auto bytes = at.find("in_flight_bytes")) run.in_flight_bytes = bytes->as_integer(1, 1 << 30);
  if (const auto kernel = at.find("kernel")) {
    std::vector<std::string> words = words_of(kernel->as_string());
    if (words.empty()) throw kernel->error("expected a kind and its keys");
    const std::string kind = words.front();
    words.erase(words.begin());
    run.kernel = parse_kernel(kind, words);
    const std::string measure =
        at.at("measure").as_one_of({"latency", "latency_ms", "hbm_bandwidth", "tflops"});
    if (measure == "latency_ms") run.measure = Run::Measure::latency_ms;
    if (measure == "hbm_bandwidth") run.measure = Run::Measure::hbm_bandwidth;
    if (measure == "tflops") run.measure = Run::Measure::tflops;
    run.unit = measure == "latency"      ? "us"
               : measure == "latency_ms" ? "ms"
               : measure == "tflops"     ? "TFLOP/s"
                                         : "GB/s";
    if (const auto fidelity = at.find("fidelity"))
      run.cost = fidelity->as_one_of({"cycle", "cost"}) == "cost";
    if (const auto launches = at.find("launches"))
      run.kernel->options.launches_counted = static_cast<std::uint32_t>(launches->as_integer(1, 1'000'000));
    return run;
  }
  std::vector<std::string> kinds;
  for (const auto& kind : kernels::microbench_kinds()) kinds.emplace_back(kind.name);
  const std::string wanted = at.at("microbench").as_one_of(kinds);
  run.kind = &kernels::microbench_kinds()[static_cast<std::size_t>(
      std::find(kinds.begin(), kinds.end(), wanted) - kinds.begin())];
  run.unit = run.kind->unit;
  return run;
}

/// Adds the runs of a suite, or of a file of figures.
void read_runs(const config::Value& runs_of, std::deque<Run>& runs) {
  for (const auto& [name, at] : runs_of.entries()) runs.push_back(read_run(name, at));
}

Figure read_figure(const config::Value& at, const std::deque<Run>& runs) {
  at.allow_only({"run", "hardware", "value", "unit", "tolerance_percent", "source", "note"});
  std::vector<std::string> names;
  for (const Run& run : runs) names.push_back(run.name);
  const std::string name = at.at("run").as_one_of(names);
  Figure f;
  f.run = &runs[static_cast<std::size_t>(std::find(names.begin(), names.end(), name) - names.begin())];
  f.hardware = at.at("hardware").as_string();
  f.source = at.at("source").as_string();
  if (const auto note = at.find("note")) f.note = note->as_string();
  if (at.at("unit").as_string() != f.run->unit)
    throw at.at("unit").error(fmt::format("expected {}", f.run->unit));
  f.published = at.at("value").as_number(1e-30, 1e30);
  f.tolerance_percent = at.at("tolerance_percent").as_number(0, 1000);
  return f;
}

/// One simulation of a run.
struct Job {
  std::size_t figure;
  std::uint32_t variant;
};

sim::KernelResult simulate(const Run& run, std::uint32_t variant, const GpuSpec& gpu) {
  if (run.cost)
    return sim::result_of(cost::CostModel{gpu}.cost(run.kernel->op, sim::conditions_of(run.kernel->options)));
  if (run.kernel) return sim::simulate_kernel(gpu, run.kernel->op, run.kernel->options);
  kernels::Microbench bench = kernels::make_microbench(run.kind->name, gpu, run.in_flight_bytes, variant);
  std::vector<std::unique_ptr<tile::Kernel>> launches;
  launches.push_back(std::move(bench.kernel));
  std::vector<sim::AddressRange> warm;
  if (bench.warm_bytes > 0) warm.push_back({bench.warm_address, bench.warm_bytes});
  sim::KernelOptions options;
  options.graph = !bench.host_launch;
  return sim::simulate_launches(gpu, std::move(launches), warm, 0, options);
}

double value_of(const Run& run, const GpuSpec& gpu, const sim::KernelResult& r) {
  if (run.kernel) {
    switch (run.measure) {
      case Run::Measure::latency:
        return r.latency.us();
      case Run::Measure::latency_ms:
        return r.latency.us() * 1e-3;
      case Run::Measure::hbm_bandwidth:
        return static_cast<double>(r.hbm_read_bytes + r.hbm_write_bytes) / r.latency.ns();
      case Run::Measure::tflops:
        return r.flops / r.latency.us() * 1e-6;
    }
  }
  const kernels::Microbench bench = kernels::make_microbench(run.kind->name, gpu, run.in_flight_bytes);
  return bench.value((bench.with_launch ? r.latency : r.execution).seconds(), r.clock_mhz * 1e6);
}

void print(const std::vector<Figure>& figures) {
  Table table{{"figure", "hardware", "unit", "published", "simulated", "error", "allowed"}};
  for (const Figure& f : figures) {
    table.add(
        {f.run->name, f.hardware, f.run->unit, f.published ? fmt::format("{:.4g}", *f.published) : "-",
         fmt::format("{:.4g}", f.simulated), f.published ? fmt::format("{:+.1f} %", f.error_percent()) : "-",
         f.published ? fmt::format("{:.0f} %{}", f.tolerance_percent, f.outside() ? " MISSED" : "") : "-"});
  }
  fmt::print("{}\n", table.text());
  for (const Figure& f : figures) {
    if (f.published) fmt::print("  {}: {}{}{}\n", f.run->name, f.source, f.note.empty() ? "" : "; ", f.note);
  }
}

Json to_json(const std::vector<Figure>& figures) {
  Json json;
  json["published"] = Json::array();
  for (const Figure& f : figures) {
    Json row;
    row["run"] = f.run->name;
    row["hardware"] = f.hardware;
    row["unit"] = f.run->unit;
    if (f.run->kind != nullptr) row["in_flight_bytes"] = f.run->in_flight_bytes;
    if (f.run->cost) row["fidelity"] = "cost";
    row["simulated"] = f.simulated;
    if (f.published) {
      row["published"] = *f.published;
      row["error_percent"] = f.error_percent();
      row["tolerance_percent"] = f.tolerance_percent;
      row["within"] = !f.outside();
    }
    if (f.published) row["source"] = f.source;
    if (!f.note.empty()) row["note"] = f.note;
    json["published"].push_back(row);
  }
  return json;
}

}  // namespace

void run_published(const std::vector<fs::path>& files, const std::string& hardware, int processes,
                   const std::string& json) {
  const auto suite = config::Document::read(resolve_config("suites", "microbench", "suite"));
  suite.root().allow_only({"name", "description", "runs"});
  std::deque<Run> runs;  // figures point into it
  read_runs(suite.root().at("runs"), runs);
  std::vector<Figure> figures;
  for (const fs::path& file : files.empty() ? published_files() : files) {
    const auto document = config::Document::read(file);
    document.root().allow_only({"name", "description", "runs", "figures"});
    if (const auto own = document.root().find("runs")) read_runs(*own, runs);
    for (const config::Value& at : document.root().at("figures").items())
      figures.push_back(read_figure(at, runs));
  }
  // Runs of which nothing is published are reported for one GPU.
  if (files.empty()) {
    for (const Run& run : runs) {
      if (std::none_of(figures.begin(), figures.end(), [&](const Figure& f) { return f.run == &run; }))
        figures.push_back({.run = &run, .hardware = hardware.empty() ? "h200_sxm" : hardware});
    }
  }
  if (!hardware.empty()) std::erase_if(figures, [&](const Figure& f) { return f.hardware != hardware; });
  if (figures.empty()) throw UsageError{fmt::format("--hardware {}: no figure of it is published", hardware)};
  std::map<std::string, GpuSpec> gpus;
  for (const Figure& f : figures) {
    if (!gpus.contains(f.hardware))
      gpus[f.hardware] = config::read_gpu(resolve_config("hardware", f.hardware, "hardware"));
  }
  std::vector<Job> todo;
  std::vector<sim::KernelJob> jobs;
  for (std::size_t i = 0; i < figures.size(); ++i) {
    const Run& run = *figures[i].run;
    for (std::uint32_t v = 0; v < run.variants(); ++v) {
      jobs.push_back({.gpu = &gpus.at(figures[i].hardware),
                      .op = run.kernel ? run.kernel->op : models::Operator{models::Copy{.bytes = 1}},
                      .key = std::to_string(todo.size())});
      todo.push_back({i, v});
    }
  }
  Progress progress;
  const std::vector<sim::KernelResult> results = sim::simulate_all(
      jobs, processes,
      [&](const sim::KernelJob& job) {
        const Job& which = todo[std::stoul(job.key)];
        return simulate(*figures[which.figure].run, which.variant, *job.gpu);
      },
      [&](const sim::WorkDone& work) { progress.update(work); });
  for (std::size_t j = 0; j < todo.size(); ++j) {
    Figure& f = figures[todo[j].figure];
    const double value = value_of(*f.run, *jobs[j].gpu, results[j]);
    if (todo[j].variant == 0)
      f.simulated = value;
    else
      f.simulated = f.run->kind->greatest ? std::max(f.simulated, value) : std::min(f.simulated, value);
  }

  if (!json.empty()) write_json(json, to_json(figures));
  if (json != "-") print(figures);
  const auto missed =
      std::count_if(figures.begin(), figures.end(), [](const Figure& f) { return f.outside(); });
  if (missed > 0)
    throw ToleranceError{fmt::format("{} published figures are missed by more than is allowed", missed)};
}

}  // namespace tessera::cli
