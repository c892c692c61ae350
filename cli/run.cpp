// tessera run: a sharded model on a simulated machine.

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <stdexcept>

#include "cli/command.hpp"
#include "cli/config_files.hpp"
#include "cli/experiment.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "cli/progress.hpp"
#include "cli/published.hpp"
#include "cli/run_report.hpp"
#include "cli/timeline.hpp"
#include "sim/core/module.hpp"

namespace tessera::cli {

namespace {

struct Options {
  std::string experiment, fidelity = "cycle", json, timeline;
  std::vector<std::string> overrides;
  bool exact = false;
  std::uint64_t seed = 1;
  int jobs = 0;
  double lookahead_ns = 0, timeline_detail = 1;
};

constexpr const char* kFooter =
    R"(An experiment names a model, the GPUs of its nodes, a fabric, a sharding and a workload; see
configs/experiments. --set changes a key of it by its dotted path, and goes on into the files it names:
  --set workload.prefill_tokens=4096     a key of the experiment
  --set model.layers=2                   a key of its model's file
  --set hardware.comp.sm.mufu_per_cycle=32
  --set fabric.node_gb_per_s=900

Examples:
  tessera run kimi_linear_sharded
  tessera run kimi_linear_sharded --set workload.decode_steps=0 --timeline out.json (open in ui.perfetto.dev)
  tessera run my.yaml --json result.json -j 8
  tessera run my.yaml --json - | jq .breakdown
  tessera run published/moba                           (a paper's figures beside the simulator's))";

void run_experiment(const Options& options) {
  require_fidelity(options.fidelity);
  const std::filesystem::path file = resolve_config("experiments", options.experiment, "run");
  if (is_published(file)) {
    if (!options.overrides.empty() || !options.timeline.empty())
      throw UsageError{fmt::format("{}: published figures take neither --set nor --timeline", file.string())};
    require_writable("--json", options.json);
    return run_published({file}, "", options.jobs, options.json);
  }
  Experiment experiment = read_experiment(file, options.overrides);
  experiment.workload.expert_load.seed = experiment.workload.selection.seed = options.seed;
  require_writable("--json", options.json);
  require_writable("--timeline", options.timeline);
  if (options.lookahead_ns > 0) sim::set_lookahead_limit(Time::from_ns(options.lookahead_ns));

  const auto start = std::chrono::steady_clock::now();
  const models::TaskGraph graph = build_graph(experiment);
  const sim::RunResult run = [&] {
    Progress progress;
    sim::RunOptions run_options{.exact = options.exact,
                                .cost = options.fidelity == "cost",
                                .record = !options.timeline.empty(),
                                .jobs = options.jobs,
                                .seed = options.seed,
                                .cuda_graph = experiment.cuda_graph};
    run_options.progress = [&](const sim::WorkDone& work) { progress.update(work); };
    try {
      return sim::run_machine(graph, experiment.machine, run_options);
    } catch (const std::invalid_argument& e) {  // a shape or dtype that no kernel supports
      throw UsageError{fmt::format("{}: {}", experiment.file.string(), e.what())};
    }
  }();

  RunRecord record{.experiment = experiment,
                   .graph = graph,
                   .run = run,
                   .analysis = analyse(graph, run, experiment.machine.fabric),
                   .error = error_of(experiment, graph, run, options.fidelity),
                   .fidelity = options.fidelity,
                   .seed = options.seed,
                   .exact = options.exact};
  record.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  if (!options.timeline.empty())
    write_run_timeline(options.timeline, graph, run, detail_of(options.timeline, options.timeline_detail));
  if (!options.json.empty()) write_json(options.json, run_json(record));
  if (options.json != "-") fmt::print("{}", run_text(record));
}

}  // namespace

void add_run(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  Command command{app, "run", "Simulate a sharded model on a machine"};
  command.option("EXPERIMENT", options->experiment, "A file, or a name in configs/experiments").required();
  command.option("--fidelity", options->fidelity, "cycle or cost").default_shown();
  command.option("--set", options->overrides, "KEY=VALUE: change a key of the experiment; may be repeated")
      .one_at_a_time();
  command.flag("--exact", options->exact, "Simulate every kernel instance; extrapolate nothing");
  command.option("--seed", options->seed, "Seed of whatever is random").default_shown();
  command.option("--json", options->json, "Write the result as JSON to a file, or - for standard output");
  command.option("--timeline", options->timeline,
                 "Write a timeline for ui.perfetto.dev: JSON, or protobuf if the name ends in .pftrace; "
                 "for GTKWave if in .vcd");
  command.option("--timeline-detail", options->timeline_detail, "So many times the usual detail, and size")
      .within(0.01, 1000.0)
      .default_shown();
  command.option("-j,--jobs", options->jobs, "Worker processes; 0: one per core")
      .within(0, 4096)
      .default_shown();
  command
      .option("--lookahead-ns", options->lookahead_ns,
              "Advanced: run modules ahead by at most this; changes the speed, never the result")
      .within(0.001, 1e9);
  command.footer(kFooter);
  command.obeyed_by([options] { run_experiment(*options); });
}

}  // namespace tessera::cli
