// tessera kernel: one operator on one simulated GPU.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>

#include "cli/command.hpp"
#include "cli/config_files.hpp"
#include "cli/experiment.hpp"
#include "cli/hbm_stream.hpp"
#include "cli/kernel_arguments.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "cli/run_error.hpp"
#include "cli/table.hpp"
#include "cli/timeline.hpp"
#include "configs/reader/calibration.hpp"
#include "configs/reader/hardware.hpp"
#include "sim/core/window_pool.hpp"
#include "sim/gpu/recording.hpp"
#include "sim/system/kernel_cost.hpp"

namespace tessera::cli {

namespace {

struct Options {
  std::string kind, hardware, fidelity = "cycle", json, timeline;
  std::vector<std::string> arguments, overrides;
  bool exact = false;
  double timeline_detail = 1;
  unsigned threads = 0;  // 0: as many as help
};

std::string kinds_text() {
  std::string text =
      "Kinds and their keys (KEY=VALUE is the default; every kind that runs on SMs also takes the last "
      "four):\n";
  for (const KernelKind& k : kernel_kinds())
    text += fmt::format("  {} {}\n      {}\n", k.name, k.keys, k.summary);
  return text + R"(
data=random|zeros sets how much the operands switch (power); l2=warm|cold, whether they lie in the L2 when the
kernel starts, as when it is replayed back to back; launch=graph|host, what launches it.

Examples:
  tessera kernel gemm m=8192 n=8192 k=8192 --hardware h200_sxm
  tessera kernel attention_prefill seq=8192 heads=32 kv_heads=8 --hardware h200_sxm --json -
  tessera kernel attention_decode batch=8 context=32768 heads=32 kv_heads=8 l2=cold --hardware h200_sxm)";
}

Json to_json(const KernelRequest& request, const Options& options, const GpuSpec& gpu,
             const validate::ErrorBar& bar, const sim::KernelResult& r, double wall_s) {
  Json json;
  json["kind"] = request.kind;
  json["hardware"] = gpu.name;
  json["fidelity"] = options.fidelity;
  for (const auto& [key, value] : request.arguments) json["arguments"][key] = value;
  json["latency_us"] = r.latency.us();
  json["execution_us"] = r.execution.us();
  json["cycles"] = r.cycles;
  json["clock_mhz"] = r.clock_mhz;
  json["bottleneck"] = r.bottleneck;
  json["utilization"] = r.utilization;
  json["bytes"] = {{"l2", r.l2_bytes},
                   {"hbm", r.hbm_read_bytes + r.hbm_write_bytes},
                   {"hbm_read", r.hbm_read_bytes},
                   {"hbm_write", r.hbm_write_bytes}};
  json["l2_hit_rate"] = r.l2_hit_rate;
  json["flops"] = r.flops;
  json["energy_j"] = r.energy_j;
  json["ci95_percent"] = r.ci95_percent;
  json["passed_percent"] = 100 * r.passed.us() / std::max(r.latency.us(), 1e-9);
  json["calibration"] = validate::name_of(bar.standing);
  json["error_bar"] = error_json(bar, r.latency.us());
  json["kernels"] = r.kernels;
  json["kernel_us"] = Json::array();
  for (const Time execution : r.executions) json["kernel_us"].push_back(execution.us());
  json["operations"] = r.operations;
  json["statistics"] = r.statistics;
  json["wall_s"] = wall_s;
  json["events"] = r.events;
  return json;
}

std::string to_text(const KernelRequest& request, const GpuSpec& gpu, const validate::ErrorBar& bar,
                    const sim::KernelResult& r, double wall_s) {
  std::vector<std::string> arguments;
  for (const auto& [key, value] : request.arguments) arguments.push_back(key + "=" + value);
  std::string text = fmt::format("{} {}\n", request.kind, fmt::join(arguments, " "));
  text += fmt::format("on {} ({} SMs), {}\n\n", gpu.product.empty() ? gpu.name : gpu.product, gpu.sms(),
                      gpu.calibration);
  const auto line = [&](const char* label, const std::string& value) {
    text += fmt::format("  {:<12}{}\n", label, value);
  };
  line("latency", fmt::format("{}   of which executing {}", duration_text(r.latency.us()),
                              duration_text(r.execution.us())));
  if (r.passed > Time{}) {
    line("sampled", fmt::format("{} of the time passed over, +- {:.2g} % (95 %)",
                                percent_text(r.passed.us() / r.latency.us()), r.ci95_percent));
  }
  line("error bar", validate::text_of(bar));
  line("cycles", fmt::format("{} at {:.0f} MHz", count_text(r.cycles), r.clock_mhz));
  line("bottleneck", r.bottleneck);
  const double us = r.latency.us();
  if (r.flops > 0) line("rate", fmt::format("{:.1f} TFLOP/s", r.flops / us * 1e-6));
  const auto hbm = static_cast<double>(r.hbm_read_bytes + r.hbm_write_bytes);
  line("HBM",
       fmt::format("{} read, {} written, {:.0f} GB/s", bytes_text(static_cast<double>(r.hbm_read_bytes)),
                   bytes_text(static_cast<double>(r.hbm_write_bytes)), hbm / us * 1e-3));
  line("L2", fmt::format("{} moved, {} of reads hit", bytes_text(static_cast<double>(r.l2_bytes)),
                         percent_text(r.l2_hit_rate)));
  line("energy", fmt::format("{}, mean {:.0f} W", energy_text(r.energy_j), r.energy_j / (us * 1e-6)));
  Table kernels{{"kernel", "executing"}};
  for (std::size_t k = 0; k < r.kernels.size(); ++k)
    kernels.add({r.kernels[k], duration_text(r.executions[k].us())});
  text += "\n" + kernels.text();
  Table table{{"resource", "of peak"}};
  for (const auto& [resource, share] : r.utilization) table.add({resource, percent_text(share)});
  text += "\n" + table.text();
  text += fmt::format("\n  {} tile operations, {} events, {:.2f} s wall, {:.0f} MiB\n",
                      count_text(static_cast<double>(r.operations)),
                      count_text(static_cast<double>(r.events)), wall_s, peak_memory_mib());
  return text;
}

struct Hardware {
  GpuSpec gpu;
  config::Calibration calibration;
};

Hardware read_hardware(const Options& options) {
  auto document = config::Document::read(resolve_config("hardware", options.hardware, "--hardware"));
  for (const std::string& text : options.overrides) apply_override(document, text);
  return {config::read_gpu(document), config::read_calibration(document)};
}

void run_kernel(const Options& options) {
  require_fidelity(options.fidelity);
  KernelRequest request = parse_kernel(options.kind, options.arguments);
  // More than the L2, the HBM and all SMs on a thread of their own would not end sooner.
  request.options.threads =
      options.threads > 0 ? options.threads : std::min(3U, std::max(1U, std::thread::hardware_concurrency()));
  request.options.exact = options.exact;
  auto [gpu, calibration] = read_hardware(options);
  require_writable("--json", options.json);
  require_writable("--timeline", options.timeline);

  if (request.hbm_stream) {
    if (!options.timeline.empty()) throw UsageError{"kernel hbm_stream: has no --timeline"};
    if (options.fidelity != "cycle") throw UsageError{"kernel hbm_stream: has --fidelity cycle only"};
    gpu.calibration = validate::name_of(validate::Standing::uncalibrated);  // whatever the SMs are
    return run_hbm_stream_command(request, gpu, options.json);
  }
  const auto start = std::chrono::steady_clock::now();
  sim::KernelResult result;
  std::optional<sim::Recording> recording;
  try {
    if (options.fidelity == "cost") {
      if (!options.timeline.empty())
        throw UsageError{"--timeline: the cost model has no timeline; use --fidelity cycle"};
      result = sim::result_of(cost::CostModel{gpu}.cost(request.op, sim::conditions_of(request.options)));
    } else {
      result = options.timeline.empty()
                   ? sim::simulate_kernel(gpu, request.op, request.options)
                   : sim::simulate_recorded(gpu, request.op, request.options, recording.emplace());
    }
  } catch (const std::invalid_argument& e) {  // a shape or dtype that no kernel supports
    throw UsageError{fmt::format("kernel {}: {}", request.kind, e.what())};
  }
  const double wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  const validate::ErrorBar bar = validate::error_bar(calibration, options.fidelity, request.op,
                                                     request.options.graph, request.options.random_data);
  if (!options.timeline.empty())
    write_kernel_timeline(options.timeline, request.kind, result, *recording,
                          detail_of(options.timeline, options.timeline_detail));
  if (!options.json.empty()) write_json(options.json, to_json(request, options, gpu, bar, result, wall_s));
  if (options.json != "-") fmt::print("{}", to_text(request, gpu, bar, result, wall_s));
}

}  // namespace

void add_kernel(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  Command command{app, "kernel", "Simulate one operator on one GPU"};
  command.option("KIND", options->kind, "Kind of kernel (below)").required();
  command.option("KEY=VALUE", options->arguments, "Its shape");
  command.option("--hardware", options->hardware, "A GPU of configs/hardware, or a file").required();
  command.option("--fidelity", options->fidelity, "cycle or cost").default_shown();
  command
      .option("--threads", options->threads,
              "Threads of the simulation; the result is the same with any number")
      .within(1U, sim::kMostThreads);
  command.flag("--exact", options->exact, "Simulate every trip of every loop; extrapolate nothing");
  command
      .option("--set", options->overrides,
              "KEY=VALUE: change a key of the hardware (hbm.read_queue=128); may be repeated")
      .one_at_a_time();
  command.option("--json", options->json, "Write the result as JSON to a file, or - for standard output");
  command.option("--timeline", options->timeline,
                 "Write a timeline: .pftrace or .json for Perfetto, .vcd for GTKWave");
  command.option("--timeline-detail", options->timeline_detail, "So many times the usual detail, and size")
      .within(0.01, 1000.0)
      .default_shown();
  command.footer(kinds_text());
  command.obeyed_by([options] { run_kernel(*options); });
}

}  // namespace tessera::cli
