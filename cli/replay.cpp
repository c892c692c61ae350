// tessera replay: a trace of requests, served by an experiment's machine.

#include <fmt/format.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>

#include "cli/command.hpp"
#include "cli/config_files.hpp"
#include "cli/experiment.hpp"
#include "cli/operator_replay.hpp"
#include "cli/options.hpp"
#include "cli/progress.hpp"
#include "cli/replay_output.hpp"
#include "cli/replay_timeline.hpp"
#include "cli/revision.hpp"
#include "traces/requests/parsers.hpp"
#include "traces/serving/simulation.hpp"

namespace tessera::cli {

namespace {

struct Options {
  std::string trace, experiment, format = "auto", fidelity = "cost", json, requests, timeline, memo;
  std::vector<std::string> overrides;
  traces::StreamOptions stream;
  traces::Objective objective;
  double stop_s = 0;
  bool skip_bad = false;
  int funnel_steps = 8, jobs = 0;
  double detail = 1;
};

constexpr int kCheckedSteps = 16;  // of the interpolation

constexpr const char* kFooter =
    R"(The trace: Mooncake JSONL, Azure LLM 2023/2024 CSV, BurstGPT CSV, or our CSV (docs/traces.md); gzip too. A trace of
operators (Chakra, Kineto) is run again on the experiment's CompNode and fabric, as `tessera trace operators` does.
The experiment's `serving` map says how its machine serves (docs/replay.md):
  --set serving.replicas=8 --set serving.prefill_replicas=4 --set serving.max_batched_tokens=4096

Metrics. Times are simulated, from a request's arrival in the trace:
  queue       to the begin of its first step; tokenising, waiting in the queue
  TTFT        to the end of the step that produced its first token (time to first token)
  TPOT        time per output token, one value per request: (last token - first token) / (tokens - 1);
              requests of one token have none
  ITL         inter-token latency, one value per token after the first: since the token before it
  end to end  to its last token, of finished requests
  waiting     requests that arrived and have not begun, gave back their memory, or are on their way to where they
              are decoded; running: that have begun and not ended. Means over the simulated time, and the most
  throughput  finished requests; prompts' tokens of requests that began, cached ones included; tokens
              produced; each over the whole simulated time
  goodput     finished requests that kept every limit of --slo-*, over the whole simulated time
  busy        share of the simulated time that the instance was in a step; GPU: without the host's part; nodes busy:
              share that the node's GPU ran kernels
  requests    of an instance: that were sent there, of those handed over both
  steps       of the instance; prefilled: prompts' tokens that it computed, again after a preemption included
  decoded     tokens of sequences whose prompts were done
  memory      share of the cache memory that running requests hold; cached prefixes that nobody uses left out
  prefix cache  share of the prompts' tokens of requests that began that were in it when they first began
  hand over   prefill apart from decoding: from the first token to the cache's arrival where it is decoded, waiting
              for room there and for the wire included; part of the second token's ITL
  preempted   times that a running request gave back its memory, to be computed again
  interpolated  the error of a step time between two that were timed: of those used most, the one in the middle
              is timed too
  funnel      (--fidelity funnel) share of the time in steps that the cycle model timed; its time over the cost
              model's; and how far each of these is, in the mean, from what the others' ratio predicts
Every request that arrived is counted once: finished, rejected with the reason, still waiting or running.

Examples:
  tessera replay mooncake_conversation_trace.jsonl --experiment kimi_linear_8gpu
  tessera replay azure.csv --experiment kimi_linear_8gpu --rate-scale 4 --slo-ttft-ms 500 --slo-tpot-ms 20
  tessera replay azure.csv --experiment kimi_linear_8gpu --from 600 --until 1200 --requests each.csv --json -)";

/// Per-request records, to a file as they come.
class RequestFile {
 public:
  explicit RequestFile(const std::string& file) : name_{file} {
    if (file.empty()) return;
    out_.reset(std::fopen(file.c_str(), "wb"));
    if (!out_) throw std::runtime_error{fmt::format("{}: {}", name_, std::strerror(errno))};
    write(request_header());
  }
  traces::RecordSink sink() {
    if (!out_) return {};
    return [this](const traces::RequestRecord& r) { write(request_line(r)); };
  }
  void finish() {
    if (out_ && std::fflush(out_.get()) != 0)
      throw std::runtime_error{fmt::format("{}: {}", name_, std::strerror(errno))};
  }

 private:
  struct Close {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  void write(const std::string& text) {
    if (std::fwrite(text.data(), 1, text.size(), out_.get()) != text.size())
      throw std::runtime_error{fmt::format("{}: {}", name_, std::strerror(errno))};
  }
  std::string name_;
  std::unique_ptr<std::FILE, Close> out_;
};

void replay(const Options& options) {
  if (options.fidelity != "cost" && options.fidelity != "funnel")
    throw UsageError{fmt::format("--fidelity {}: expected cost or funnel", options.fidelity)};
  if (!options.memo.empty() && options.fidelity != "funnel")
    throw UsageError{"--funnel-memo needs --fidelity funnel: only that simulates kernels"};
  const auto start = std::chrono::steady_clock::now();
  Experiment e =
      read_experiment(resolve_config("experiments", options.experiment, "--experiment"), options.overrides);
  if (is_operator_trace(options.trace, options.format)) {
    require_writable("--json", options.json);
    const Json result = operator_replay(options.trace, e.machine.comp_gpu,
                                        e.machine.fabric.name.empty() ? nullptr : &e.machine.fabric);
    if (!options.json.empty()) write_json(options.json, result);
    if (options.json != "-") fmt::print("{}:\n{}", options.trace, lines_of(result));
    return;
  }
  e.workload.expert_load.seed = e.workload.selection.seed = options.stream.seed;
  if (!e.model.causal)
    throw UsageError{fmt::format("{}: {} is bidirectional: it cannot decode", e.file.string(), e.model.name)};
  if (e.serving.prefill_replicas > 0 && e.machine.fabric.name.empty())
    throw UsageError{fmt::format(
        "{}: key 'fabric' is missing: caches are handed over from instance to instance", e.file.string())};
  require_writable("--json", options.json);
  require_writable("--requests", options.requests);
  require_writable("--timeline", options.timeline);
  require_writable("--funnel-memo", options.memo);

  const traces::RequestReader::Options reading{.format = traces::parse_request_format(options.format),
                                               .skip_bad = options.skip_bad};
  ReplayRecord record{.experiment = e,
                      .trace = std::filesystem::path{options.trace}.filename().string(),
                      .fidelity = options.fidelity,
                      .stream = options.stream,
                      .objective = options.objective};
  const traces::ServedModel served{.model = &e.model,
                                   .workload = e.workload,
                                   .cascade = e.cascade,
                                   .tensor_gpus = e.tensor_gpus,
                                   .share_out = [&e](std::int64_t tokens) { return share_out(e, tokens); },
                                   .cuda_graph = e.cuda_graph};
  try {
    record.memory = instance_memory(served, e.machine, e.serving);
    traces::StepTable steps{served, e.machine, e.serving};
    const auto run = [&](const traces::RecordSink& sink, traces::ServingObserver* observer) {
      traces::RequestReader reader = traces::RequestReader::open(options.trace, reading);
      const traces::Deployment deployment{
          .spec = e.serving,
          .memory = record.memory,
          .handover = {.gb_per_s = e.machine.fabric.node_gb_per_s,
                       .latency_us =
                           (2 * e.machine.fabric.endpoint_latency_ns + 2 * e.machine.fabric.link_latency_ns +
                            e.machine.fabric.switch_latency_ns) *
                               1e-3 +
                           e.machine.fabric.message_overhead_us,
                       .token_bytes = record.memory.token_bytes,
                       .state_bytes = record.memory.state_bytes},
          .block_tokens = reader.block_tokens(),
          .max_tokens = e.model.max_positions};
      traces::RequestStream stream{[&](traces::Request& r) { return reader.next(r); }, options.stream};
      traces::Simulation simulation{deployment, steps, options.objective};
      if (observer != nullptr) simulation.observe(*observer);
      const std::int64_t stop =
          options.stop_s > 0 ? static_cast<std::int64_t>(options.stop_s * 1e9) : INT64_MAX;
      record.report = simulation.run([&](traces::Request& r) { return stream.next(r); }, stop, sink);
      record.format = traces::name_of(reader.format());
      record.skipped = reader.skipped();
    };
    if (options.fidelity == "funnel") {
      run({}, nullptr);
      record.interpolation = steps.interpolation_error(kCheckedSteps);
      Progress progress;
      traces::KernelPrices cycle{traces::KernelPrices::Model::cycle, options.jobs,
                                 [&](const sim::WorkDone& w) { progress.update(w); }};
      std::optional<traces::KernelMemo> memo;
      if (!options.memo.empty()) {
        memo.emplace(options.memo, fmt::format("{} {}", e.config_hash, revision()));
        cycle.remember_in(*memo, e.machine.comp_gpu);
      }
      record.funnel = steps.simulate_most_used(options.funnel_steps, cycle);
    }
    RequestFile each{options.requests};
    if (options.timeline.empty()) {
      run(each.sink(), nullptr);
    } else {
      const auto instances = static_cast<std::size_t>(e.serving.replicas);
      traces::ServingHistory history{
          instances, limits_of(detail_of(options.timeline, options.detail), instances, steps.nodes().size()),
          [&](std::uint32_t instance) { return steps.busy_ns(instance); }};
      const traces::RecordSink write = each.sink();
      run(
          [&](const traces::RequestRecord& r) {
            history.request(r);
            if (write) write(r);
          },
          &history);
      history.finish(record.report.end_ns);
      write_timeline(options.timeline, [&](traces::Timeline& t) { draw_replay(t, history, steps.nodes()); });
    }
    each.finish();
    if (options.fidelity == "cost") record.interpolation = steps.interpolation_error(kCheckedSteps);
    record.nodes = steps.nodes();
    for (std::uint32_t i = 0; i < e.serving.replicas; ++i) record.busy_ns.push_back(steps.busy_ns(i));
    record.timed_steps = steps.timed();
    record.kernels = steps.kernels();
  } catch (const std::invalid_argument& error) {
    throw UsageError{fmt::format("{}: {}", e.file.string(), error.what())};
  }
  record.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!options.json.empty()) write_json(options.json, replay_json(record));
  if (options.json != "-") fmt::print("{}", replay_text(record));
}

}  // namespace

void add_replay(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  Command command{app, "replay", "Serve a trace of requests on an experiment's machine"};
  command.option("TRACE", options->trace, "A file of requests").required();
  command.option("--experiment", options->experiment, "A file, or a name in configs/experiments").required();
  command.option("--format", options->format, "auto, mooncake, azure, burstgpt, csv, chakra or kineto")
      .default_shown();
  command
      .option("--fidelity", options->fidelity,
              "Step times: cost, or funnel (the steps that carry most time by the cycle model)")
      .default_shown();
  command.option("--funnel-steps", options->funnel_steps, "How many steps the funnel simulates")
      .within(1, 1000)
      .default_shown();
  command.option("--funnel-memo", options->memo,
                 "A file of simulated kernels: read if it is there, and written for the next run of the "
                 "same experiment");
  command.option("--set", options->overrides, "KEY=VALUE: change a key of the experiment; may be repeated")
      .one_at_a_time();
  command
      .option("--from", options->stream.from_s, "Only requests that arrive from this second of the trace on")
      .not_negative();
  command.option("--until", options->stream.until_s, "and before this one").positive();
  command.option("--limit", options->stream.limit, "At most so many requests").positive();
  command.option("--time-scale", options->stream.time_scale, "Multiply the times between arrivals")
      .within(1e-6, 1e6)
      .default_shown();
  command
      .option("--rate-scale", options->stream.rate_scale,
              "So many times the requests: drop some, or add copies, at random")
      .within(1e-6, 1e4)
      .default_shown();
  command.option("--seed", options->stream.seed, "Seed of whatever is random").default_shown();
  command
      .option("--stop", options->stop_s,
              "End at this simulated second, whatever is left; else when all requests are done")
      .positive();
  command.option("--slo-ttft-ms", options->objective.ttft_ms, "Limit of a good request's TTFT").positive();
  command.option("--slo-tpot-ms", options->objective.tpot_ms, "Limit of its TPOT").positive();
  command.option("--slo-e2e-ms", options->objective.e2e_ms, "Limit of its time end to end").positive();
  command.flag("--skip-bad", options->skip_bad, "Count lines that cannot be read, and go on");
  command.option("--timeline", options->timeline,
                 "Write a timeline: .pftrace or .json for Perfetto, .vcd for GTKWave");
  command.option("--timeline-detail", options->detail, "How much of it, as a multiple of what is usual")
      .within(0.001, 1000.0)
      .default_shown();
  command.option("--requests", options->requests, "Write a CSV line about every request to this file");
  command.option("--json", options->json, "Write the result as JSON to a file, or - for standard output");
  command.option("-j,--jobs", options->jobs, "Worker processes of the cycle model; 0: one per core")
      .within(0, 4096)
      .default_shown();
  command.footer(kFooter);
  command.obeyed_by([options] { replay(*options); });
}

}  // namespace tessera::cli
