// tessera calibrate: fits the few fitted numbers of a hardware file to measured kernels.

#include "validate/calibrate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iterator>
#include <memory>

#include "cli/command.hpp"
#include "cli/config_files.hpp"
#include "cli/measured_rows.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "cli/progress.hpp"
#include "cli/table.hpp"
#include "configs/reader/calibration.hpp"
#include "configs/reader/hardware.hpp"
#include "configs/reader/parameters.hpp"
#include "sim/system/kernel_cost.hpp"
#include "validate/calibration_record.hpp"
#include "validate/report.hpp"
#include "validate/statistics.hpp"

namespace tessera::cli {

namespace {

struct Options {
  std::vector<std::filesystem::path> paths;
  std::string hardware, out, fidelity = "cycle", json;
  std::vector<std::string> parameters, kinds;
  double max_ms = 0;
  std::size_t sample = 0;
  std::uint64_t seed = 0;
  int folds = 5, max_iterations = 8, jobs = 0;
};

constexpr const char* kFooter =
    R"(Varied are the numbers that the hardware file marks `fitted: true`, within their bounds, or those that
--parameters names. What is minimised is Huber's loss of ln(simulated / measured) over the rows. Then every row is
predicted by a fit that it was held out of; those residuals go into the file, and give predictions their error bars.

--max-iterations 0 fits nothing and only records how well the file predicts: also beside what another --fidelity
recorded.

Examples:
  tessera calibrate measurements/ --hardware h200_sxm --sample 100 --max-ms 1 --out h200_sxm.calibrated.yaml
  tessera calibrate gemm.csv --hardware my.yaml --parameters launch.graph_launch_us,l2.clock_mhz=1400:1900 --out my2.yaml)";

/// The file that is calibrated.
struct Source {
  std::filesystem::path file;
  std::string text;
  config::Document document;
  GpuSpec gpu;
  config::Calibration calibration;
};

Source read_source(const std::string& name) {
  const std::filesystem::path file = resolve_config("hardware", name, "--hardware");
  const auto document = config::Document::read(file);
  std::ifstream in{file, std::ios::binary};
  std::string text{std::istreambuf_iterator<char>{in}, {}};
  return {file, std::move(text), document, config::read_gpu(document), config::read_calibration(document)};
}

/// "LOW:HIGH"
config::Bounds parse_bounds(const std::string& word, const std::string& text) {
  const std::size_t colon = text.find(':');
  const auto number = [&](std::string_view part) {
    double x = 0;
    const auto [end, status] = std::from_chars(part.data(), part.data() + part.size(), x);
    if (status != std::errc{} || end != part.data() + part.size() || !std::isfinite(x))
      throw UsageError{fmt::format("--parameters {}: expected KEY or KEY=LOW:HIGH", word)};
    return x;
  };
  if (colon == std::string::npos)
    throw UsageError{fmt::format("--parameters {}: expected KEY or KEY=LOW:HIGH", word)};
  const config::Bounds b{number(std::string_view{text}.substr(0, colon)),
                         number(std::string_view{text}.substr(colon + 1))};
  if (!(b.low < b.high)) throw UsageError{fmt::format("--parameters {}: the lower bound comes first", word)};
  return b;
}

config::Parameter find_parameter(const std::vector<config::Parameter>& all, const std::string& key) {
  const auto at = std::find_if(all.begin(), all.end(), [&](const auto& p) { return p.key == key; });
  if (at != all.end()) return *at;
  std::vector<std::string> keys, fitted;
  for (const config::Parameter& p : all) {
    keys.push_back(p.key);
    if (p.fitted) fitted.push_back(p.key);
  }
  const std::string near = config::nearest(key, keys);
  throw UsageError{fmt::format("--parameters: the hardware has no number '{}'; {}", key,
                               near.empty() ? fmt::format("fitted are: {}", fmt::join(fitted, ", "))
                                            : fmt::format("did you mean '{}'?", near))};
}

std::vector<config::Parameter> choose_parameters(const Source& source,
                                                 const std::vector<std::string>& words) {
  const std::vector<config::Parameter> all = config::parameters_of(source.document);
  std::vector<config::Parameter> chosen;
  if (words.empty()) {
    std::copy_if(all.begin(), all.end(), std::back_inserter(chosen), [](const auto& p) { return p.fitted; });
    if (chosen.empty())
      throw UsageError{
          fmt::format("{}: no number is marked `fitted: true`: mark some, with bounds: [low, high], or "
                      "name them by --parameters KEY=LOW:HIGH",
                      source.file.string())};
    return chosen;
  }
  for (const std::string& word : words) {
    const std::size_t equals = word.find('=');
    config::Parameter p = find_parameter(all, word.substr(0, equals));
    if (equals != std::string::npos) p.bounds = parse_bounds(word, word.substr(equals + 1));
    if (!p.bounds)
      throw UsageError{fmt::format("--parameters {}: has no bounds in {}: write {}=LOW:HIGH", word,
                                   source.file.string(), p.key)};
    if (p.value < p.bounds->low || p.value > p.bounds->high)
      throw UsageError{fmt::format("--parameters {}: its value, {}, lies outside", word, p.value)};
    if (std::any_of(chosen.begin(), chosen.end(), [&](const auto& other) { return other.key == p.key; }))
      throw UsageError{fmt::format("--parameters: {} is given twice", p.key)};
    chosen.push_back(std::move(p));
  }
  return chosen;
}

/// The bounds, and what lies between them, must be hardware that can be simulated: a count of SMs cannot be
/// fitted.
void require_variable(const Source& source, const std::vector<config::Parameter>& parameters) {
  for (const config::Parameter& p : parameters) {
    auto scratch = config::Document::parse(source.text, source.file);
    const config::Bounds& b = *p.bounds;
    for (const double x : {b.low, b.low + 0.3819660 * (b.high - b.low), b.high}) {
      try {
        (void)config::gpu_with(scratch, {p.key}, {x});
      } catch (const config::InputError& e) {
        throw UsageError{
            fmt::format("{} cannot be varied between {} and {}: {}", p.key, b.low, b.high, e.what())};
      }
    }
  }
}

/// The parameters as the file shall have them.
std::vector<config::Parameter> written(const validate::CalibrationFit& fit) {
  std::vector<config::Parameter> list;
  for (const validate::ParameterFit& f : fit.parameters) {
    if (f.unconstrained || f.standard_error == 0) continue;  // stays as it was
    config::Parameter p = f.before;
    p.value = f.value;
    p.fitted = true;
    p.standard_error = f.standard_error;
    list.push_back(std::move(p));
  }
  return list;
}

bool values_changed(const validate::CalibrationFit& fit) {
  return std::any_of(fit.parameters.begin(), fit.parameters.end(),
                     [](const auto& p) { return p.value != p.before.value; });
}

struct Report {
  const Options& options;
  const Source& source;
  const validate::CalibrationFit& fit;
  const config::FidelityCalibration& record;
  std::string dropped;  ///< the fidelity whose record the new values made void
  double wall_s = 0;
};

std::vector<std::string> remarks_on(const validate::ParameterFit& p) {
  std::vector<std::string> remarks;
  if (p.unconstrained) remarks.emplace_back("no effect on any row");
  if (p.weak) remarks.emplace_back("hardly constrained by these rows");
  if (p.at_bound) remarks.emplace_back("at its bound");
  return remarks;
}

std::string parameters_text(const Report& r) {
  Table table{{"parameter", "bounds", "before", "fitted", "std. error", "over the folds", "remark"}};
  for (const validate::ParameterFit& p : r.fit.parameters) {
    const bool fitted = !p.unconstrained && p.standard_error > 0;
    table.add({p.before.key, fmt::format("{} to {}", p.before.bounds->low, p.before.bounds->high),
               fmt::format("{}", p.before.value), fitted ? fmt::format("{}", p.value) : "-",
               fitted ? fmt::format("{:.2g}", p.standard_error) : "-",
               fitted ? fmt::format("{:.4g} to {:.4g}", p.fold_least, p.fold_most) : "-",
               fmt::format("{}", fmt::join(remarks_on(p), ", "))});
  }
  std::string text = table.text();
  for (const validate::CorrelatedPair& pair : r.fit.identifiability.correlated)
    text += fmt::format("  {} and {} are correlated by {:+.3f}: these rows fix only a combination of them\n",
                        r.fit.parameters[pair.a].before.key, r.fit.parameters[pair.b].before.key,
                        pair.correlation);
  if (!r.fit.identifiability.singular_values.empty()) {
    std::vector<std::string> values;
    for (const double s : r.fit.identifiability.singular_values) values.push_back(fmt::format("{:.3g}", s));
    text += fmt::format("  singular values of the scaled Jacobian: {}\n", fmt::join(values, ", "));
  }
  return text;
}

using Groups = std::vector<validate::Group> (*)(const validate::Comparison&);

void add_errors(Table& table, const Report& r, Groups groups) {
  const auto before = groups(r.fit.before), fitted = groups(r.fit.fitted), held_out = groups(r.fit.held_out);
  const auto percent = [](double x) { return fmt::format("{:.1f} %", x); };
  for (std::size_t g = 0; g < before.size(); ++g) {
    for (const auto& [label, group] :
         {std::pair{"before", &before[g]}, {"fitted", &fitted[g]}, {"held out", &held_out[g]}}) {
      const validate::Errors e = validate::errors_of(group->rows);
      table.add({fmt::format("{}: {}", group->meaning, label), fmt::format("{}", e.count),
                 percent(e.mape_percent), percent(e.median_ape_percent), percent(e.p90_ape_percent),
                 percent(e.max_ape_percent), fmt::format("{:+.1f} %", e.bias_percent)});
    }
  }
}

std::string to_text(const Report& r) {
  std::string text = fmt::format("{} against {} rows, --fidelity {}, {} folds\n\n", r.source.gpu.name,
                                 r.fit.held_out.rows.size(), r.options.fidelity, r.options.folds);
  text += parameters_text(r) + "\n";
  Table errors{{"rows", "count", "MAPE", "median APE", "p90", "max", "bias"}};
  add_errors(errors, r, validate::by_kind);
  add_errors(errors, r, validate::quoted_groups);
  text += errors.text();
  std::size_t left_out = 0;
  for (const validate::Skipped& s : r.fit.before.skipped) left_out += s.count;
  if (left_out > 0) text += fmt::format("  {} rows were left out (--json lists why)\n", left_out);
  text += fmt::format(
      "\n  loss {:.4g} to {:.4g} in {} iterations{}; {} kernels simulated, {} events, {:.1f} s wall\n",
      r.fit.fit.loss_before, r.fit.fit.loss, r.fit.fit.iterations,
      r.fit.fit.converged || r.options.max_iterations == 0 ? "" : " (--max-iterations reached)",
      count_text(static_cast<double>(r.fit.simulated)), count_text(static_cast<double>(r.fit.events)),
      r.wall_s);
  if (!r.dropped.empty())
    text += fmt::format(
        "  what --fidelity {0} had recorded no longer holds and was dropped: calibrate the new file "
        "with --fidelity {0} --max-iterations 0 to have it again\n",
        r.dropped);
  return text + fmt::format("  written to {}\n", r.options.out);
}

Json errors_json(const Report& r, Groups groups) {
  Json json = Json::object();
  for (const auto& [label, comparison] :
       {std::pair{"before", &r.fit.before}, {"fitted", &r.fit.fitted}, {"held_out", &r.fit.held_out}}) {
    for (const validate::Group& g : groups(*comparison))
      json[g.name][label] = validate::to_json(validate::errors_of(g.rows));
  }
  return json;
}

Json to_json(const Report& r) {
  const validate::CalibrationFit& fit = r.fit;
  Json json;
  json["hardware"] = r.source.gpu.name;
  json["fidelity"] = r.options.fidelity;
  json["out"] = r.options.out;
  json["rows"] = fit.held_out.rows.size();
  json["rows_hash"] = r.record.rows_hash;
  json["seed"] = r.options.seed;
  json["folds"] = r.options.folds;
  json["parameters"] = Json::array();
  for (const validate::ParameterFit& p : fit.parameters) {
    json["parameters"].push_back({{"key", p.before.key},
                                  {"bounds", {p.before.bounds->low, p.before.bounds->high}},
                                  {"before", p.before.value},
                                  {"value", p.value},
                                  {"standard_error", p.standard_error},
                                  {"folds", {p.fold_least, p.fold_most}},
                                  {"unconstrained", p.unconstrained},
                                  {"weak", p.weak},
                                  {"at_bound", p.at_bound}});
  }
  Json& identifiability = json["identifiability"];
  identifiability["singular_values"] = fit.identifiability.singular_values;
  identifiability["correlated"] = Json::array();
  for (const validate::CorrelatedPair& pair : fit.identifiability.correlated) {
    identifiability["correlated"].push_back({{"a", fit.parameters[pair.a].before.key},
                                             {"b", fit.parameters[pair.b].before.key},
                                             {"correlation", pair.correlation}});
  }
  json["kinds"] = errors_json(r, validate::by_kind);
  json["groups"] = errors_json(r, validate::quoted_groups);
  json["loss_before"] = fit.fit.loss_before;
  json["loss"] = fit.fit.loss;
  json["iterations"] = fit.fit.iterations;
  json["converged"] = fit.fit.converged;
  json["skipped"] = Json::array();
  for (const validate::Skipped& s : fit.before.skipped) {
    json["skipped"].push_back(
        {{"file", s.file.string()}, {"kind", s.kind}, {"count", s.count}, {"reason", s.reason}});
  }
  json["failed"] = Json::array();
  for (const validate::Comparison::Failed& f : fit.before.failed)
    json["failed"].push_back({{"file", f.row.file.string()}, {"line", f.row.line}, {"reason", f.reason}});
  json["simulated"] = fit.simulated;
  json["events"] = fit.events;
  json["wall_s"] = r.wall_s;
  return json;
}

/// The cycle model in worker processes, with a bar per batch.
validate::EvaluateJobs in_workers(int processes) {
  return [processes](const std::vector<sim::KernelJob>& jobs, const std::string& what) {
    std::vector<sim::KernelOutcome> outcomes(jobs.size());
    Progress progress;
    sim::simulate_each(
        jobs, processes, validate::simulate_cycles,
        [&](std::size_t job, sim::KernelOutcome&& outcome) { outcomes[job] = std::move(outcome); },
        [&](sim::WorkDone work) {
          work.what = what + ": " + work.what;
          progress.update(work);
        });
    return outcomes;
  };
}

/// The cost model, here.
std::vector<sim::KernelOutcome> by_cost_model(const std::vector<sim::KernelJob>& jobs, const std::string&) {
  std::vector<sim::KernelOutcome> outcomes(jobs.size());
  sim::cost_each(jobs,
                 [&](std::size_t job, sim::KernelOutcome&& outcome) { outcomes[job] = std::move(outcome); });
  return outcomes;
}

/// Beside the file that is calibrated: "h200_sxm.calibrated.yaml".
std::string calibrated_beside(const std::string& hardware) {
  std::filesystem::path file = resolve_config("hardware", hardware, "--hardware");
  std::filesystem::path stem = file.stem();
  if (stem.extension() == ".calibrated") stem = stem.stem();
  return file.replace_filename(stem.string() + ".calibrated.yaml").string();
}

void run_calibrate(const Options& given) {
  Options options = given;
  require_fidelity(options.fidelity);
  if (options.out.empty()) options.out = calibrated_beside(options.hardware);
  const std::filesystem::path out{options.out};
  if (out.extension() != ".yaml" && out.extension() != ".yml")
    throw UsageError{fmt::format("--out {}: expected a .yaml file", options.out)};
  const Source source = read_source(options.hardware);
  const std::vector<config::Parameter> parameters = choose_parameters(source, options.parameters);
  require_variable(source, parameters);
  const std::string name = out.stem().string();
  // Whether the file can be rewritten is better known before an hour of simulation than after.
  std::vector<config::Parameter> marked = parameters;
  for (config::Parameter& p : marked) p.fitted = true;
  (void)config::with_calibration(source.text, source.file, name, marked, {});
  require_writable("--out", options.out);
  require_writable("--json", options.json);
  validate::Measurements measurements = read_rows(
      options.paths,
      {.kinds = options.kinds, .max_ms = options.max_ms, .sample = options.sample, .seed = options.seed});

  const auto start = std::chrono::steady_clock::now();
  validate::CalibrateOptions how{.folds = options.folds,
                                 .seed = options.seed,
                                 .evaluate = options.fidelity == "cost"
                                                 ? validate::EvaluateJobs{by_cost_model}
                                                 : in_workers(options.jobs)};
  how.fit.max_iterations = options.max_iterations;
  std::vector<std::string> keys;
  for (const config::Parameter& p : parameters) keys.push_back(p.key);
  auto varied = config::Document::parse(source.text, source.file);
  const auto gpu_at = [&](const validate::Point& point) { return config::gpu_with(varied, keys, point); };
  const validate::CalibrationFit fit = [&] {
    try {
      return validate::calibrate(std::move(measurements), parameters, gpu_at, how);
    } catch (const std::invalid_argument& e) {
      throw UsageError{fmt::format("calibrate: {}", e.what())};
    }
  }();

  config::FidelityCalibration record = validate::record_of(fit.held_out);
  record.sample = options.sample;
  record.seed = options.seed;
  record.max_ms = options.max_ms;
  record.folds = options.folds;
  config::Calibration calibration{.base = source.calibration.base.empty() ? source.gpu.name
                                                                          : source.calibration.base};
  Report report{options, source, fit, record, {}, 0};
  for (const auto& [fidelity, other] : source.calibration.fidelities) {
    if (fidelity == options.fidelity) continue;
    if (source.calibration.stale || values_changed(fit))
      report.dropped = fidelity;
    else
      calibration.fidelities[fidelity] = other;
  }
  calibration.fidelities[options.fidelity] = record;
  write_whole(out, config::with_calibration(source.text, source.file, name, written(fit), calibration));
  report.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!options.json.empty()) write_json(options.json, to_json(report));
  if (options.json != "-") fmt::print("{}", to_text(report));
  if (!fit.before.failed.empty()) {
    const auto& broken = fit.before.failed.front();
    throw std::runtime_error{
        fmt::format("{} rows could not be simulated and were left out; the first: {}:{}: {}",
                    fit.before.failed.size(), broken.row.file.string(), broken.row.line, broken.reason)};
  }
}

}  // namespace

void add_calibrate(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  Command command{app, "calibrate", "Fit a hardware file's fitted numbers to measured kernels"};
  command.option("MEASUREMENTS", options->paths, "Measurement files, or folders of them").required();
  command.option("--hardware", options->hardware, "A GPU of configs/hardware, or a file").required();
  command.option("--out", options->out,
                 "Write the calibrated hardware to this YAML file; else to NAME.calibrated.yaml beside the "
                 "one it begins with");
  command
      .option("--parameters", options->parameters,
              "Vary these numbers only, separated by commas: KEY, or KEY=LOW:HIGH to set bounds")
      .separated_by(',');
  command.option("--fidelity", options->fidelity, "cycle or cost").default_shown();
  command.option("--kinds", options->kinds, "Only these kinds, separated by commas").separated_by(',');
  command.option("--sample", options->sample, "At most this many rows of each kind, drawn by the seed")
      .within(1, 1000000000);
  command.option("--max-ms", options->max_ms, "Leave out rows that took longer").within(1e-9, 1e9);
  command.option("--seed", options->seed, "Seed of the sample and of the folds").default_shown();
  command.option("--folds", options->folds, "Parts that are held out in turn")
      .within(2, 1000)
      .default_shown();
  command
      .option("--max-iterations", options->max_iterations,
              "Of the fit; 0: fit nothing, record how well the file predicts")
      .within(0, 1000)
      .default_shown();
  command.option("-j,--jobs", options->jobs, "Worker processes; 0: one per core")
      .within(0, 4096)
      .default_shown();
  command.option("--json", options->json, "Write the result as JSON to a file, or - for standard output");
  command.footer(kFooter);
  command.obeyed_by([options] { run_calibrate(*options); });
}

}  // namespace tessera::cli
