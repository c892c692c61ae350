#include "cli/published.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "cli/analysis.hpp"
#include "cli/command.hpp"
#include "cli/config_files.hpp"
#include "cli/experiment.hpp"
#include "cli/kernel_arguments.hpp"
#include "cli/output.hpp"
#include "cli/progress.hpp"
#include "cli/table.hpp"
#include "configs/reader/document.hpp"
#include "configs/reader/hardware.hpp"
#include "kernels/microbench/microbench.hpp"
#include "sim/system/kernel_cost.hpp"
#include "sim/system/kernel_profile.hpp"
#include "validate/words.hpp"

namespace tessera::cli {

namespace {

namespace fs = std::filesystem;

/// One run of the suite.
struct Run {
  std::string name, unit;
  std::int64_t in_flight_bytes = 65536;
  std::optional<KernelRequest> kernel;  // or
  fs::path experiment;                  // with
  std::vector<std::string> overrides;   // or the microbenchmark
  const kernels::MicrobenchKind* kind = nullptr;
  enum class Measure {
    latency,
    latency_ms,
    hbm_bandwidth,
    tflops,
    prefill_ms,
    step_ms,
    token_ms
  } measure = Measure::latency;  // of a kernel, from prefill_ms on of an experiment
  bool cost = false;             // by the cost model: too long for the cycle model
  std::uint32_t variants() const { return kind != nullptr ? kind->variants : 1; }
};

/// A run on one GPU: simulated once, however many figures speak of it.
struct Subject {
  const Run* run = nullptr;
  std::string hardware;
  double max_clock_mhz = 0;  // 0: the part's own
  double simulated = 0;

  auto key() const { return std::tie(run->name, hardware, max_clock_mhz); }
};

/// What is published, beside what is simulated.
struct Figure {
  std::string name, unit, source, note;
  std::size_t subject = 0;
  std::optional<std::size_t> over;  // the ratio to another
  std::optional<double> published;  // none: reported only
  double tolerance_percent = 0;
  double simulated = 0;

  double error_percent() const { return 100 * (simulated / *published - 1); }
  bool outside() const { return published && std::abs(error_percent()) > tolerance_percent; }
};

/// A file of figures: its name, and the setting that it assumes.
struct Suite {
  std::string name, setting;
  std::vector<Figure> figures;
};

/// Microbenchmarks first, then what papers report; by name.
std::vector<fs::path> published_files() {
  std::vector<fs::path> files;
  for (const fs::path& root : config_roots()) {
    for (const fs::path& folder :
         {root.parent_path() / "validate" / "published", root / "experiments" / "published"}) {
      if (!fs::is_directory(folder)) continue;
      const auto first = static_cast<std::ptrdiff_t>(files.size());
      for (const auto& entry : fs::directory_iterator{folder})
        if (entry.path().extension() == ".yaml" && is_published(entry.path())) files.push_back(entry.path());
      std::sort(files.begin() + first, files.end());
    }
    if (!files.empty()) return files;
  }
  throw UsageError{"--published: there is no validate/published/*.yaml"};
}

/// A key of a figure, or what the file says for all of them.
struct Keys {
  const config::Value& at;
  const std::optional<config::Value>& defaults;

  std::optional<config::Value> find(const char* key) const {
    if (auto own = at.find(key)) return own;
    return defaults ? defaults->find(key) : std::nullopt;
  }
  config::Value get(const char* key) const {
    if (const auto value = find(key)) return *value;
    return at.at(key);
  }
};

const std::vector<std::string> kRunKeys{"microbench", "kernel",   "experiment",      "set",      "measure",
                                        "fidelity",   "launches", "in_flight_bytes", "simulated"};

Run read_experiment_run(Run run, const config::Value& experiment, const Keys& at) {
  run.experiment = resolve_config("experiments", experiment);
  if (const auto set = at.find("set")) {
    for (const config::Value& key : set->items()) run.overrides.push_back(key.as_string());
  }
  const std::string measure = at.get("measure").as_one_of({"prefill_ms", "step_ms", "token_ms"});
  run.measure = measure == "prefill_ms" ? Run::Measure::prefill_ms
                : measure == "step_ms"  ? Run::Measure::step_ms
                                        : Run::Measure::token_ms;
  run.unit = "ms";
  // A run of many kernels within the run of a figure: by the cost model only.
  if (const auto fidelity = at.find("fidelity"))
    run.cost = fidelity->as_one_of({"cost"}) == "cost";
  else
    throw at.at.error("fidelity is missing: experiments are run by cost");
  return run;
}

Run read_run(const std::string& name, const Keys& at) {
  Run run{.name = name};
  if (const auto bytes = at.find("in_flight_bytes")) run.in_flight_bytes = bytes->as_integer(1, 1 << 30);
  if (const auto experiment = at.find("experiment")) return read_experiment_run(run, *experiment, at);
  if (const auto kernel = at.find("kernel")) {
    std::vector<std::string> words = validate::words_of(kernel->as_string());
    if (words.empty()) throw kernel->error("expected a kind and its keys");
    const std::string kind = words.front();
    words.erase(words.begin());
    run.kernel = parse_kernel(kind, words);
    const std::string measure =
        at.get("measure").as_one_of({"latency", "latency_ms", "hbm_bandwidth", "tflops"});
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
  const std::string wanted = at.get("microbench").as_one_of(kinds);
  run.kind = &kernels::microbench_kinds()[static_cast<std::size_t>(
      std::find(kinds.begin(), kinds.end(), wanted) - kinds.begin())];
  run.unit = run.kind->unit;
  return run;
}

/// Adds the runs of a suite, or of a file of figures.
void read_runs(const config::Value& runs_of, std::deque<Run>& runs) {
  for (const auto& [name, at] : runs_of.entries()) {
    at.allow_only(kRunKeys);
    if (const auto simulated = at.find("simulated"); simulated && !simulated->as_bool()) continue;
    runs.push_back(read_run(name, Keys{at, std::nullopt}));
  }
}

/// The subjects, each once.
class Subjects {
 public:
  std::size_t add(const Run* run, const std::string& hardware, double max_clock_mhz) {
    const Subject wanted{run, hardware, max_clock_mhz};
    for (std::size_t i = 0; i < all.size(); ++i)
      if (all[i].key() == wanted.key()) return i;
    all.push_back(wanted);
    return all.size() - 1;
  }
  std::vector<Subject> all;
};

/// The run that `value` names.
const Run& named_run(const config::Value& value, const std::deque<Run>& runs) {
  std::vector<std::string> names;
  for (const Run& run : runs) names.push_back(run.name);
  const std::string name = value.as_one_of(names);
  return runs[static_cast<std::size_t>(std::find(names.begin(), names.end(), name) - names.begin())];
}

Figure read_figure(const Keys& keys, double max_clock_mhz, std::deque<Run>& runs, Subjects& subjects) {
  std::vector<std::string> known{"run",    "over", "hardware", "value", "unit", "tolerance_percent",
                                 "source", "note"};
  known.insert(known.end(), kRunKeys.begin(), kRunKeys.end());
  keys.at.allow_only(known);
  // A figure may say what it runs itself; then it names it for others.
  const config::Value name = keys.at.at("run");
  if (keys.at.find("kernel") || keys.at.find("microbench") || keys.at.find("experiment")) {
    if (std::ranges::any_of(runs, [&](const Run& run) { return run.name == name.as_string(); }))
      throw name.error(fmt::format("a run is called {} already", name.as_string()));
    runs.push_back(read_run(name.as_string(), keys));
  }
  const Run& run = named_run(name, runs);
  Figure f{.name = run.name};
  const std::string hardware = keys.get("hardware").as_string();
  f.subject = subjects.add(&run, hardware, max_clock_mhz);
  f.unit = run.unit;
  if (const auto over = keys.at.find("over")) {
    const Run& base = named_run(*over, runs);
    if (base.unit != run.unit)
      throw over->error(fmt::format("expected a run in {}, as {}", run.unit, run.name));
    f.over = subjects.add(&base, hardware, max_clock_mhz);
    f.name += " / " + base.name;
    f.unit = "x";
  }
  f.source = keys.get("source").as_string();
  if (const auto note = keys.find("note")) f.note = note->as_string();
  const config::Value unit = keys.get("unit");
  if (unit.as_string() != f.unit && !(f.over && !keys.at.find("unit")))
    throw unit.error("expected " + f.unit);
  f.published = keys.get("value").as_number(1e-30, 1e30);
  f.tolerance_percent = keys.get("tolerance_percent").as_number(0, 1000);
  return f;
}

/// One simulation of a subject.
struct Job {
  std::size_t subject;
  std::uint32_t variant;
};

/// The figure that `measure` names of an experiment on `hardware`, as a latency.
sim::KernelResult run_of(const Run& run, const Subject& subject) {
  std::vector<std::string> overrides = run.overrides;
  overrides.push_back("hardware.comp=" + subject.hardware);
  Experiment e = read_experiment(run.experiment, overrides);
  if (subject.max_clock_mhz > 0) {
    e.machine.comp_gpu.boost_clock_mhz = std::min(e.machine.comp_gpu.boost_clock_mhz, subject.max_clock_mhz);
    e.machine.attn_gpu.boost_clock_mhz = std::min(e.machine.attn_gpu.boost_clock_mhz, subject.max_clock_mhz);
  }
  const models::TaskGraph graph = build_graph(e);
  const sim::RunResult result =
      sim::run_machine(graph, e.machine, {.cost = run.cost, .jobs = 1, .cuda_graph = e.cuda_graph});
  const Analysis a = analyse(graph, result, e.machine.fabric);
  double us = a.prefill.latency_us;
  if (run.measure != Run::Measure::prefill_ms) us = a.decode.latency_us / std::max(1, a.decode.steps);
  if (run.measure == Run::Measure::token_ms) us /= static_cast<double>(e.workload.batch);
  sim::KernelResult r;
  r.latency = Time::from_us(us);
  return r;
}

sim::KernelResult simulate(const Subject& subject, std::uint32_t variant, const GpuSpec& gpu) {
  const Run& run = *subject.run;
  if (!run.experiment.empty()) return run_of(run, subject);
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
  if (!run.experiment.empty()) return r.latency.us() * 1e-3;
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
      default:
        break;
    }
  }
  const kernels::Microbench bench = kernels::make_microbench(run.kind->name, gpu, run.in_flight_bytes);
  return bench.value((bench.with_launch ? r.latency : r.execution).seconds(), r.clock_mhz * 1e6);
}

void print(const std::vector<Suite>& suites, const std::vector<Subject>& subjects) {
  for (const Suite& suite : suites) {
    if (!suite.setting.empty()) fmt::print("{}: {}\n\n", suite.name, suite.setting);
    Table table{{"figure", "hardware", "unit", "published", "simulated", "error", "allowed"}};
    for (const Figure& f : suite.figures) {
      table.add(
          {f.name, subjects[f.subject].hardware, f.unit,
           f.published ? fmt::format("{:.4g}", *f.published) : "-", fmt::format("{:.4g}", f.simulated),
           f.published ? fmt::format("{:+.1f} %", f.error_percent()) : "-",
           f.published ? fmt::format("{:.0f} %{}", f.tolerance_percent, f.outside() ? " MISSED" : "") : "-"});
    }
    fmt::print("{}\n", table.text());
    // What is said of several figures is said once.
    std::vector<std::pair<std::string, std::string>> said;
    for (const Figure& f : suite.figures) {
      if (!f.published) continue;
      const std::string text = fmt::format("{}{}{}", f.source, f.note.empty() ? "" : "; ", f.note);
      const auto same = std::ranges::find(said, text, &std::pair<std::string, std::string>::second);
      if (same == said.end())
        said.emplace_back(f.name, text);
      else
        same->first += ", " + f.name;
    }
    for (const auto& [names, text] : said) fmt::print("  {}: {}\n", names, text);
    fmt::print("\n");
  }
}

Json to_json(const std::vector<Suite>& suites, const std::vector<Subject>& subjects) {
  Json json;
  json["published"] = Json::array();
  for (const Suite& suite : suites) {
    for (const Figure& f : suite.figures) {
      const Subject& subject = subjects[f.subject];
      Json row;
      row["run"] = subject.run->name;
      if (f.over) row["over"] = subjects[*f.over].run->name;
      row["hardware"] = subject.hardware;
      if (subject.max_clock_mhz > 0) row["max_clock_mhz"] = subject.max_clock_mhz;
      row["unit"] = f.unit;
      if (subject.run->kind != nullptr) row["in_flight_bytes"] = subject.run->in_flight_bytes;
      if (subject.run->cost) row["fidelity"] = "cost";
      row["simulated"] = f.simulated;
      if (f.published) {
        row["published"] = *f.published;
        row["error_percent"] = f.error_percent();
        row["tolerance_percent"] = f.tolerance_percent;
        row["within"] = !f.outside();
        row["source"] = f.source;
      }
      if (!suite.setting.empty()) row["setting"] = suite.setting;
      if (!f.note.empty()) row["note"] = f.note;
      json["published"].push_back(row);
    }
  }
  return json;
}

}  // namespace

bool is_published(const fs::path& file) {
  try {
    return config::Document::read(file).root().find("figures").has_value();
  } catch (const config::InputError&) {
    return false;  // whoever reads it next says what is wrong with it
  }
}

void run_published(const std::vector<fs::path>& files, const std::string& hardware, int processes,
                   const std::string& json) {
  const auto microbench = config::Document::read(resolve_config("suites", "microbench", "suite"));
  microbench.root().allow_only({"name", "description", "runs"});
  std::deque<Run> runs;  // subjects point into it
  read_runs(microbench.root().at("runs"), runs);
  Subjects subjects;
  std::vector<Suite> suites;
  for (const fs::path& file : files.empty() ? published_files() : files) {
    const auto document = config::Document::read(file);
    const config::Value root = document.root();
    root.allow_only({"name", "description", "setting", "max_clock_mhz", "defaults", "runs", "figures"});
    Suite suite{.name = file.stem().string()};
    if (const auto setting = root.find("setting")) suite.setting = setting->as_string();
    double max_clock_mhz = 0;
    if (const auto clock = root.find("max_clock_mhz")) max_clock_mhz = clock->as_number(100, 10000);
    const std::optional<config::Value> defaults = root.find("defaults");
    if (defaults)
      defaults->allow_only(
          {"hardware", "unit", "tolerance_percent", "source", "note", "measure", "fidelity", "launches"});
    if (const auto own = root.find("runs")) read_runs(*own, runs);
    for (const config::Value& at : root.at("figures").items())
      suite.figures.push_back(read_figure(Keys{at, defaults}, max_clock_mhz, runs, subjects));
    suites.push_back(std::move(suite));
  }
  // Runs of which nothing is published are reported for one GPU.
  if (files.empty()) {
    Suite rest{.name = "microbench"};
    for (const Run& run : runs) {
      if (std::ranges::any_of(subjects.all, [&](const Subject& s) { return s.run == &run; })) continue;
      rest.figures.push_back({.name = run.name,
                              .unit = run.unit,
                              .subject = subjects.add(&run, hardware.empty() ? "h200_sxm" : hardware, 0)});
    }
    if (!rest.figures.empty()) suites.push_back(std::move(rest));
  }
  std::vector<bool> wanted(subjects.all.size());
  for (Suite& suite : suites) {
    std::erase_if(suite.figures, [&](const Figure& f) {
      return !hardware.empty() && subjects.all[f.subject].hardware != hardware;
    });
    for (const Figure& f : suite.figures) {
      wanted[f.subject] = true;
      if (f.over) wanted[*f.over] = true;
    }
  }
  std::erase_if(suites, [](const Suite& s) { return s.figures.empty(); });
  if (suites.empty()) throw UsageError{fmt::format("--hardware {}: no figure of it is published", hardware)};
  std::map<std::pair<std::string, double>, GpuSpec> gpus;
  std::vector<Job> todo;
  std::vector<sim::KernelJob> jobs;
  for (std::size_t i = 0; i < subjects.all.size(); ++i) {
    if (!wanted[i]) continue;
    const Subject& s = subjects.all[i];
    const auto [gpu, added] = gpus.try_emplace({s.hardware, s.max_clock_mhz});
    if (added) {
      gpu->second = config::read_gpu(resolve_config("hardware", s.hardware, "hardware"));
      if (s.max_clock_mhz > 0)
        gpu->second.boost_clock_mhz = std::min(gpu->second.boost_clock_mhz, s.max_clock_mhz);
    }
    for (std::uint32_t v = 0; v < s.run->variants(); ++v) {
      jobs.push_back({.gpu = &gpu->second,
                      .op = s.run->kernel ? s.run->kernel->op : models::Operator{models::Copy{.bytes = 1}},
                      .key = std::to_string(todo.size())});
      todo.push_back({i, v});
    }
  }
  Progress progress;
  const std::vector<sim::KernelResult> results = sim::simulate_all(
      jobs, processes,
      [&](const sim::KernelJob& job) {
        const Job& which = todo[std::stoul(job.key)];
        return simulate(subjects.all[which.subject], which.variant, *job.gpu);
      },
      [&](const sim::WorkDone& work) { progress.update(work); });
  for (std::size_t j = 0; j < todo.size(); ++j) {
    Subject& s = subjects.all[todo[j].subject];
    const double value = value_of(*s.run, *jobs[j].gpu, results[j]);
    if (todo[j].variant == 0)
      s.simulated = value;
    else
      s.simulated = s.run->kind->greatest ? std::max(s.simulated, value) : std::min(s.simulated, value);
  }
  std::ptrdiff_t missed = 0;
  for (Suite& suite : suites) {
    for (Figure& f : suite.figures) {
      f.simulated = subjects.all[f.subject].simulated / (f.over ? subjects.all[*f.over].simulated : 1);
      missed += f.outside() ? 1 : 0;
    }
  }

  if (!json.empty()) write_json(json, to_json(suites, subjects.all));
  if (json != "-") print(suites, subjects.all);
  if (missed > 0)
    throw ToleranceError{fmt::format("{} published figures are missed by more than is allowed", missed)};
}

}  // namespace tessera::cli
