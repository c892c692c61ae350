// tessera validate: the simulator held against measured kernels.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <memory>

#include "cli/chart_library.hpp"
#include "cli/command.hpp"
#include "cli/config_files.hpp"
#include "cli/measured_rows.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "cli/progress.hpp"
#include "cli/published.hpp"
#include "cli/table.hpp"
#include "configs/reader/hardware.hpp"
#include "validate/explain.hpp"
#include "validate/report.hpp"

namespace tessera::cli {

namespace {

constexpr std::size_t kWorst = 10;

struct Options {
  std::vector<std::filesystem::path> paths;
  std::string hardware, fidelity = "cycle", json, plot;
  std::vector<std::string> kinds;
  double max_ms = 0;       // 0: rows of any length
  std::size_t sample = 0;  // 0: every row
  std::uint64_t seed = 0;
  int jobs = 0;
  double max_mape = -1;  // below 0: no limit
  bool published = false;
  std::string explain;
};

constexpr const char* kFooter =
    R"(Files: CSV as ai-dynamo/aiconfigurator or microsoft/vidur have it, or JSON lines such as
  {"kind": "gemm", "args": {"m": 512, "n": 512, "k": 512}, "latency_us": {"median": 4.2}}
Of a folder, its .csv and .jsonl files are read. What the simulator cannot run is counted and said.

Exit code 3 if --max-mape is given and exceeded by any kind.

Examples:
  tessera validate measurements/ --hardware h200_sxm --sample 200 --plot errors.html
  tessera validate --published
  tessera validate h200.jsonl --hardware h200_sxm --explain 12
  tessera validate gemm_bf16.csv --hardware h200_sxm --kinds gemm --json - --max-mape 15)";

std::vector<std::string> cells(const std::string& name, const validate::Errors& e) {
  const auto percent = [](double value) { return fmt::format("{:.1f} %", value); };
  return {name,
          count_text(static_cast<double>(e.count)),
          percent(e.mape_percent),
          percent(e.median_ape_percent),
          percent(e.p90_ape_percent),
          percent(e.max_ape_percent),
          fmt::format("{:+.1f} %", e.bias_percent)};
}

std::string to_text(const validate::Comparison& comparison, const GpuSpec& gpu, double wall_s) {
  std::string text =
      fmt::format("{} rows held against {}, {}\n\n", count_text(static_cast<double>(comparison.rows.size())),
                  gpu.product.empty() ? gpu.name : gpu.product, gpu.calibration);
  Table table{{"kind", "rows", "MAPE", "median APE", "p90", "max", "bias"}};
  const auto add = [&](const std::vector<validate::Group>& groups) {
    for (const validate::Group& g : groups) table.add(cells(g.meaning, validate::errors_of(g.rows)));
  };
  const auto kinds = validate::by_kind(comparison);
  add(kinds);
  add(validate::quoted_groups(comparison));
  if (const auto files = validate::by_file(comparison); files.size() > 1) add(files);
  text += table.text();

  for (const validate::Group& kind : kinds) {
    text += fmt::format("\nWorst of {}\n", kind.name);
    Table worst{{"row", "shape", "measured", "simulated", "error", "bottleneck"}};
    for (const validate::Compared* c : validate::worst_of(kind.rows, kWorst)) {
      worst.add({fmt::format("{}:{}", c->row.file.filename().string(), c->row.line), shape_text(c->row),
                 duration_text(c->row.measured_us), duration_text(c->predicted_us),
                 fmt::format("{:+.1f} %", c->error_percent()), c->result.bottleneck});
    }
    text += worst.text();
  }

  if (!comparison.skipped.empty()) {
    text += "\nNot compared\n";
    Table skipped{{"file", "rows", "kind", "reason"}};
    for (const validate::Skipped& s : comparison.skipped)
      skipped.add({s.file.filename().string(), count_text(static_cast<double>(s.count)), s.kind, s.reason});
    text += skipped.text();
  }
  for (const auto& f : comparison.failed)
    text += fmt::format("\nFAILED {}:{}: {}\n", f.row.file.string(), f.row.line, f.reason);
  text += fmt::format("\n  {} distinct kernels, {} events, {:.1f} s wall, {:.0f} MiB\n",
                      count_text(static_cast<double>(comparison.simulated)),
                      count_text(static_cast<double>(comparison.events)), wall_s, peak_memory_mib());
  return text;
}

void require_within(const validate::Comparison& comparison, double max_mape) {
  if (max_mape < 0) return;
  std::vector<std::string> over;
  for (const validate::Group& kind : validate::by_kind(comparison)) {
    const double mape = validate::errors_of(kind.rows).mape_percent;
    if (mape > max_mape) over.push_back(fmt::format("{} has {:.1f} %", kind.name, mape));
  }
  if (!over.empty()) throw ToleranceError{fmt::format("--max-mape {}: {}", max_mape, fmt::join(over, ", "))};
}

/// "LINE" or "FILE:LINE".
const validate::Measurement& find_row(const std::string& word, const validate::Measurements& measurements) {
  const std::size_t colon = word.rfind(':');
  const std::string file = colon == std::string::npos ? "" : word.substr(0, colon),
                    line = word.substr(colon == std::string::npos ? 0 : colon + 1);
  if (line.empty() || line.size() > 9 || line.find_first_not_of("0123456789") != std::string::npos)
    throw UsageError{fmt::format("--explain {}: expected LINE or FILE:LINE", word)};
  const auto found = std::find_if(measurements.rows.begin(), measurements.rows.end(), [&](const auto& row) {
    return row.line == std::stoi(line) && (file.empty() || row.file == file || row.file.filename() == file);
  });
  if (found != measurements.rows.end()) return *found;
  std::vector<std::string> there;
  for (std::size_t i = 0; i < std::min<std::size_t>(5, measurements.rows.size()); ++i)
    there.push_back(
        fmt::format("{}:{}", measurements.rows[i].file.filename().string(), measurements.rows[i].line));
  throw UsageError{fmt::format("--explain {}: no such row can be compared; the first ones are {}", word,
                               fmt::join(there, ", "))};
}

void explain_row(const Options& options, const validate::Measurements& measurements, const GpuSpec& gpu) {
  if (options.fidelity != "cycle")
    throw UsageError{"--explain: needs --fidelity cycle, which tells kernels apart"};
  const validate::Measurement& row = find_row(options.explain, measurements);
  const sim::KernelJob job = validate::job_of(row, gpu);
  const sim::KernelResult result =
      sim::simulate_all({job}, 1, validate::simulate_with_statistics, [](const sim::WorkDone&) {}).front();
  fmt::print("{}", validate::explain(row, result, gpu));
}

void run_validate(const Options& options) {
  require_fidelity(options.fidelity);
  if (options.published) {
    if (options.fidelity != "cycle")
      throw UsageError{"--published: microbenchmarks run with --fidelity cycle only"};
    require_writable("--json", options.json);
    return run_published(options.paths, options.hardware, options.jobs, options.json);
  }
  if (options.paths.empty()) throw UsageError{"validate: PATH is required (or --published)"};
  if (options.hardware.empty()) throw UsageError{"validate: --hardware is required"};
  const GpuSpec gpu = config::read_gpu(resolve_config("hardware", options.hardware, "--hardware"));
  require_writable("--json", options.json);
  require_writable("--plot", options.plot);
  const std::string library = options.plot.empty() ? "" : chart_library("--plot");
  validate::Measurements measurements = read_rows(
      options.paths,
      {.kinds = options.kinds, .max_ms = options.max_ms, .sample = options.sample, .seed = options.seed});

  if (!options.explain.empty()) return explain_row(options, measurements, gpu);
  const auto start = std::chrono::steady_clock::now();
  const validate::Comparison comparison = [&] {
    Progress progress;
    return validate::compare(std::move(measurements), gpu,
                             {.processes = options.jobs,
                              .cost = options.fidelity == "cost",
                              .progress = [&](const sim::WorkDone& work) { progress.update(work); }});
  }();
  const double wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  if (!options.plot.empty()) write_whole(options.plot, validate::to_html(comparison, gpu, library));
  if (!options.json.empty())
    write_json(options.json, validate::to_json(comparison, gpu, options.fidelity, wall_s));
  if (options.json != "-") fmt::print("{}", to_text(comparison, gpu, wall_s));
  if (!comparison.failed.empty()) {
    const auto& first = comparison.failed.front();
    throw std::runtime_error{fmt::format("{} rows could not be simulated; the first: {}:{}: {}",
                                         comparison.failed.size(), first.row.file.string(), first.row.line,
                                         first.reason)};
  }
  require_within(comparison, options.max_mape);
}

}  // namespace

void add_validate(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  Command command{app, "validate", "Hold the simulator against measured kernels"};
  command.option("PATH", options->paths, "Measurement files, or folders of them");
  command.flag("--published", options->published,
               "Run microbenchmarks and hold them against published figures (validate/published/*.yaml, "
               "or the files given)");
  command.option("--hardware", options->hardware, "A GPU of configs/hardware, or a file");
  command.option("--fidelity", options->fidelity, "cycle or cost").default_shown();
  command.option("--kinds", options->kinds, "Only these kinds, separated by commas").separated_by(',');
  command.option("--sample", options->sample, "At most this many rows of each kind, drawn by the seed")
      .within(1, 1000000000);
  command
      .option("--max-ms", options->max_ms,
              "Leave out rows that took longer (simulating a millisecond takes seconds), and count them")
      .within(1e-9, 1e9);
  command.option("--seed", options->seed, "Seed of the sample").default_shown();
  command.option("-j,--jobs", options->jobs, "Worker processes; 0: one per core")
      .within(0, 4096)
      .default_shown();
  command.option("--json", options->json, "Write the result as JSON to a file, or - for standard output");
  command.option("--plot", options->plot, "Write a page with plots (needs the package libjs-chart.js)");
  command.option("--explain", options->explain,
                 "One row, LINE or FILE:LINE: simulated against measured by stage");
  command
      .option("--max-mape", options->max_mape,
              "Exit with 3 if any kind's mean absolute error is above this, in percent")
      .within(0.0, 1e9);
  command.footer(kFooter);
  command.obeyed_by([options] { run_validate(*options); });
}

}  // namespace tessera::cli
