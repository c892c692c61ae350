// tessera sweep: many points of a design space.

#include "cli/command.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <thread>

#include "cli/chart_library.hpp"
#include "cli/command_line.hpp"
#include "cli/config_files.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "cli/sweep/around.hpp"
#include "cli/sweep/conduct.hpp"
#include "cli/sweep/evaluate.hpp"
#include "cli/sweep/pareto.hpp"
#include "cli/sweep/store.hpp"
#include "cli/table.hpp"

namespace tessera::cli {

namespace {

struct Options {
  std::string sweep, out, shard, around, html, json, metric = "latency_us";
  std::vector<std::string> overrides;
  double step_percent = 5;
  unsigned jobs = 0;
  bool resume = false, mpi = false;
};

constexpr const char* kFooter =
    R"(A sweep file names an experiment (or a kernel), the axes to vary, and what is asked of the points; see
configs/sweeps and docs/sweeps.md. Results go to an SQLite file, one row per point; -j never changes them.

Examples:
  tessera sweep attn_nodes --out results.db
  tessera sweep my.yaml --out results.db --resume            what is missing of an interrupted sweep
  tessera sweep my.yaml --out part3.db --shard 3/16          every 16th point; then: tessera merge part*.db --out all.db
  mpirun -n 64 tessera sweep my.yaml --out results.db --mpi  one rank hands the points out to the others
  tessera pareto results.db; tessera export results.db --csv results.csv; tessera compare results.db#3 results.db#7
  tessera sweep --around single_llama3_8b --html tornado.html   d(latency) / d(each hardware parameter))";

Shard parse_shard(const std::string& text) {
  Shard shard;
  if (text.empty()) return shard;
  const std::size_t slash = text.find('/');
  const auto number = [&](std::string_view part, std::int64_t& n) {
    const auto [end, status] = std::from_chars(part.data(), part.data() + part.size(), n);
    return status == std::errc{} && end == part.data() + part.size();
  };
  if (slash == std::string::npos || !number(std::string_view{text}.substr(0, slash), shard.index) ||
      !number(std::string_view{text}.substr(slash + 1), shard.count) || shard.count < 1 || shard.index < 0 ||
      shard.index >= shard.count)
    throw UsageError{fmt::format("--shard {}: expected I/N with I from 0 to N - 1", text)};
  return shard;
}

/// Goes on as the program of the same name that MPI knows.
[[noreturn]] void become_mpi(int argc, char** argv) {
  const std::filesystem::path here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const std::filesystem::path program = here / "tessera_mpi";
  if (!std::filesystem::exists(program))
    throw UsageError{
        fmt::format("--mpi: {} was not built: install libboost-mpi-dev and libopenmpi-dev, and build again",
                    program.string())};
  std::vector<char*> arguments{argv, argv + argc};
  arguments.push_back(nullptr);
  execv(program.c_str(), arguments.data());
  throw std::runtime_error{fmt::format("{}: {}", program.string(), std::strerror(errno))};
}

std::unique_ptr<Crew> crew_for(const MakeCrew& make_crew, const Sweep& sweep,
                               const std::vector<Point>& points, unsigned jobs) {
  const std::size_t processes = jobs > 0 ? jobs : std::max(1U, std::thread::hardware_concurrency());
  if (make_crew) return make_crew(sweep, points, processes);
  return local_crew(processes, [&] { return sweep_work(sweep, points); });
}

std::string summary(const std::vector<Row>& rows, double wall_s) {
  std::map<std::string, std::size_t> counts;
  std::map<std::string, std::size_t> errors;
  for (const Row& row : rows) {
    ++counts[row.fidelity + " " + row.status];
    if (row.status == "failed") ++errors[row.error];
  }
  std::string text;
  for (const auto& [what, n] : counts)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count_text(static_cast<double>(n)), what);
  text += fmt::format("; {:.2f} s wall\n", wall_s);
  constexpr std::size_t kMostErrors = 5;
  for (const auto& [error, n] : errors) {
    if (std::distance(errors.begin(), errors.find(error)) >= static_cast<std::ptrdiff_t>(kMostErrors)) break;
    text += fmt::format("  failed x {}: {}\n", n, error);
  }
  return text;
}

void run_around(const Options& options, const MakeCrew& make_crew) {
  if (options.step_percent <= 0 || options.step_percent >= 100)
    throw UsageError{"--step: expected 0 to 100 %"};
  const std::vector<std::string> metrics{kMetrics.begin(), kMetrics.end()};
  if (std::find(metrics.begin(), metrics.end(), options.metric) == metrics.end()) {
    const std::string near = config::nearest(options.metric, metrics);
    throw UsageError{fmt::format("--metric {}: {}", options.metric,
                                 near.empty() ? fmt::format("there is: {}", fmt::join(metrics, ", "))
                                              : fmt::format("did you mean '{}'?", near))};
  }
  require_writable("--html", options.html);
  require_writable("--json", options.json);
  const std::string library = options.html.empty() ? "" : chart_library("--html");
  const Around a = around(resolve_config("experiments", options.around, "--around"), options.overrides,
                          options.step_percent / 100);
  Evaluator{a.sweep}.read(a.points.front());
  const auto crew = crew_for(make_crew, a.sweep, a.points, options.jobs);
  if (!crew) return;
  Store store{options.out.empty() ? ":memory:" : options.out};
  store.claim(a.sweep, options.resume);
  conduct(a.sweep, a.points, {}, store, *crew);
  const std::vector<Row> rows = store.rows();
  const std::vector<Sensitivity> all = sensitivities(a, rows, options.metric);
  if (!options.html.empty())
    write_whole(options.html, to_html(all, rows.front(), options.metric, options.around,
                                      options.step_percent / 100, library));
  if (!options.json.empty()) write_json(options.json, to_json(all, rows.front(), options.metric));
  if (options.json == "-") return;
  constexpr std::size_t kShown = 20;
  Table table{{"parameter", "value", fmt::format("-{:.3g} %", options.step_percent),
               fmt::format("+{:.3g} %", options.step_percent), "elasticity"}};
  std::size_t without = 0;
  for (const Sensitivity& s : all) {
    if (!s.missing.empty() && s.down_percent == 0 && s.up_percent == 0) {
      ++without;
      continue;
    }
    if (table.empty() || &s - all.data() < static_cast<std::ptrdiff_t>(kShown))
      table.add({s.parameter.key, fmt::format("{:.6g}", s.parameter.value),
                 fmt::format("{:+.3f} %", s.down_percent), fmt::format("{:+.3f} %", s.up_percent),
                 fmt::format("{:+.3f}", s.elasticity)});
  }
  fmt::print("{}: {} {:.6g}; its change with one parameter at a time\n\n{}", options.around, options.metric,
             *rows.front().metric(options.metric), table.text());
  if (without > 0) fmt::print("\n  {} parameters cannot be changed alone (--json says why)\n", without);
}

void run_sweep(const Options& options, int argc, char** argv, const MakeCrew& make_crew) {
  if (options.mpi && !make_crew) become_mpi(argc, argv);
  if (!options.around.empty()) {
    if (!options.sweep.empty()) throw UsageError{"sweep: a sweep file or --around, not both"};
    if (!options.shard.empty()) throw UsageError{"--shard: not with --around"};
    return run_around(options, make_crew);
  }
  if (options.sweep.empty()) throw UsageError{"sweep: SWEEP.yaml is required (or --around)"};
  if (options.out.empty()) throw UsageError{"sweep: --out is required: the SQLite file for the results"};
  if (!options.overrides.empty())
    throw UsageError{"--set: only with --around; a sweep file has its own 'set'"};
  const Shard shard = parse_shard(options.shard);
  require_writable("--out", options.out);
  const auto start = std::chrono::steady_clock::now();
  const Sweep sweep = read_sweep(resolve_config("sweeps", options.sweep, "sweep"));
  std::vector<Point> points = points_of(sweep);
  if (sweep.design.method == DesignMethod::search) {
    // Its own points are not known yet: the corners of each axis are checked.
    std::vector<Point> probes;
    for (std::size_t d = 0; d < sweep.dimensions.size(); ++d) {
      const std::size_t n = std::max<std::size_t>(2, sweep.dimensions[d].levels.size());
      for (std::size_t i = 0; i < n; ++i) {
        std::vector<double> place(sweep.dimensions.size(), 0.5);
        place[d] = (static_cast<double>(i) + 0.5) / static_cast<double>(n);
        probes.push_back(point_at(sweep, 0, place));
      }
    }
    require_axes(sweep, probes);
  } else {
    require_axes(sweep, points);
  }
  const auto crew = crew_for(make_crew, sweep, points, options.jobs);
  if (!crew) return;
  Store store{options.out};
  store.claim(sweep, options.resume);
  conduct(sweep, points, shard, store, *crew);

  const std::vector<Row> rows = store.rows();
  const double wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  fmt::print("{}: {} rows in {}: {}", sweep.name, count_text(static_cast<double>(rows.size())), options.out,
             summary(rows, wall_s));
  if (sweep.fidelity == SweepFidelity::funnel && shard.count > 1)
    fmt::print(
        "  the cycle model's points are known once all shards are merged: tessera merge, then sweep "
        "--resume\n");
}

}  // namespace

void add_sweep(CLI::App& app, int argc, char** argv, const MakeCrew& make_crew) {
  const auto options = std::make_shared<Options>();
  Command command{app, "sweep", "Run many points of a design space"};
  command.option("SWEEP", options->sweep, "A file, or a name in configs/sweeps");
  command.option("--out", options->out, "SQLite file for the results");
  command.option("-j,--jobs", options->jobs, "Worker processes; 0: one per core")
      .within(0U, 4096U)
      .default_shown();
  command.flag("--resume", options->resume, "Go on with what --out holds already");
  command.option("--shard", options->shard, "I/N: only points whose number leaves the remainder I by N");
  command.flag("--mpi", options->mpi, "Hand points out to the ranks of an MPI job");
  command.option("--around", options->around, "EXPERIMENT: sensitivity to every hardware parameter");
  command.option("--step", options->step_percent, "--around: change of a parameter, in percent")
      .default_shown();
  command.option("--metric", options->metric, "--around: what is watched").default_shown();
  command
      .option("--set", options->overrides,
              "--around: KEY=VALUE: change a key of the experiment; may be repeated")
      .one_at_a_time();
  command.option("--html", options->html,
                 "--around: a page with a tornado chart (needs the package libjs-chart.js)");
  command.option("--json", options->json, "--around: the result as JSON to a file, or - for standard output");
  command.footer(kFooter);
  command.obeyed_by([options, argc, argv, &make_crew] { run_sweep(*options, argc, argv, make_crew); });
}

}  // namespace tessera::cli
