#include "cli/hbm_stream.hpp"

#include <fmt/format.h>

#include <chrono>
#include <stdexcept>

#include "cli/command.hpp"
#include "cli/output.hpp"
#include "cli/table.hpp"

namespace tessera::cli {

namespace {

using LossName = std::pair<const char*, double sim::HbmLostTime::*>;
constexpr LossName kLosses[] = {{"turnaround", &sim::HbmLostTime::turnaround},
                                {"refresh", &sim::HbmLostTime::refresh},
                                {"rows", &sim::HbmLostTime::rows},
                                {"bank_groups", &sim::HbmLostTime::bank_groups},
                                {"other", &sim::HbmLostTime::other}};

/// What takes most of the time: moving data, or one of the losses.
std::string name_bottleneck(const sim::HbmLostTime& lost) {
  std::string name = "HBM bandwidth";
  double most = lost.data;
  const std::pair<const char*, double> losses[] = {{"HBM read-write turnaround", lost.turnaround},
                                                   {"HBM refresh", lost.refresh},
                                                   {"HBM row activation", lost.rows},
                                                   {"HBM bank group", lost.bank_groups},
                                                   {"latency", lost.other}};
  for (const auto& [loss, share] : losses) {
    if (share <= most) continue;
    name = loss;
    most = share;
  }
  return name;
}

Json to_json(const KernelRequest& request, const GpuSpec& gpu, const sim::HbmStreamResult& r, double wall_s) {
  Json json;
  json["kind"] = request.kind;
  json["hardware"] = gpu.name;
  json["fidelity"] = "cycle";
  for (const auto& [key, value] : request.arguments) json["arguments"][key] = value;
  json["latency_us"] = r.duration.us();
  json["cycles"] = r.duration.ns() / gpu.hbm.tck_ns;  // of the HBM's command clock
  json["clock_mhz"] = 1e3 / gpu.hbm.tck_ns;
  json["bottleneck"] = name_bottleneck(r.lost);
  json["utilization"] = {{"hbm", r.gb_per_s / r.peak_gb_per_s}};
  json["bytes"] = {{"l2", 0},
                   {"hbm", r.bytes},
                   {"hbm_read", r.commands.read_bytes},
                   {"hbm_write", r.commands.write_bytes}};
  json["flops"] = 0.0;
  json["energy_j"] = static_cast<double>(r.bytes) * gpu.power.hbm_pj_per_byte * 1e-12;
  json["ci95_percent"] = 0.0;
  json["calibration"] = gpu.calibration;
  json["pseudo_channels"] = r.channels;
  json["requests"] = r.requests;
  json["gb_per_s"] = r.gb_per_s;
  json["peak_gb_per_s"] = r.peak_gb_per_s;
  json["latency_ns"] = {{"mean", r.latency.mean_ns},
                        {"p50", r.latency.p50_ns},
                        {"p90", r.latency.p90_ns},
                        {"p99", r.latency.p99_ns},
                        {"max", r.latency.max_ns}};
  json["row_hit_rate"] = r.row_hit_rate;
  const auto accesses = [&](std::uint64_t bytes) {
    return bytes / static_cast<std::uint64_t>(gpu.hbm.access_bytes);
  };
  json["commands"] = {{"activate", r.commands.activates},
                      {"precharge", r.commands.precharges},
                      {"read", accesses(r.commands.read_bytes)},
                      {"write", accesses(r.commands.write_bytes)},
                      {"refresh", r.commands.refreshes}};
  for (const auto& [name, member] : kLosses) json["time_lost"][name] = r.lost.*member;
  json["wall_s"] = wall_s;
  return json;
}

std::string to_text(const KernelRequest& request, const GpuSpec& gpu, const sim::HbmStreamResult& r,
                    double wall_s) {
  std::vector<std::string> arguments;
  for (const auto& [key, value] : request.arguments) arguments.push_back(key + "=" + value);
  std::string text = fmt::format("{} {}\non {}, {} pseudo-channel{} of {:.2f} GB/s\n\n", request.kind,
                                 fmt::join(arguments, " "), gpu.product, r.channels,
                                 r.channels == 1 ? "" : "s", r.peak_gb_per_s / r.channels);
  const auto line = [&](const char* label, const std::string& value) {
    text += fmt::format("  {:<12}{}\n", label, value);
  };
  line("bandwidth",
       fmt::format("{:.2f} GB/s, {} of peak", r.gb_per_s, percent_text(r.gb_per_s / r.peak_gb_per_s)));
  line("latency",
       fmt::format("mean {:.1f} ns, p50 {:.1f}, p90 {:.1f}, p99 {:.1f}, max {:.1f} (arrival to last beat{})",
                   r.latency.mean_ns, r.latency.p50_ns, r.latency.p90_ns, r.latency.p99_ns, r.latency.max_ns,
                   r.commands.reads > 0 ? ", reads" : ""));
  line("duration",
       fmt::format("{}, {} moved in {} requests", duration_text(r.duration.us()),
                   bytes_text(static_cast<double>(r.bytes)), count_text(static_cast<double>(r.requests))));
  line("row hits", percent_text(r.row_hit_rate));
  line("commands", fmt::format("{} activates, {} precharges, {} reads, {} writes, {} refreshes",
                               count_text(static_cast<double>(r.commands.activates)),
                               count_text(static_cast<double>(r.commands.precharges)),
                               count_text(static_cast<double>(r.commands.read_bytes) / 32),
                               count_text(static_cast<double>(r.commands.write_bytes) / 32),
                               count_text(static_cast<double>(r.commands.refreshes))));
  line("bottleneck", name_bottleneck(r.lost));
  Table table{{"data bus", "of the time"}};
  table.add({"data", percent_text(r.lost.data)});
  for (const auto& [name, member] : kLosses) table.add({name, percent_text(r.lost.*member)});
  return text + "\n" + table.text() + fmt::format("\n  {:.2f} s wall\n", wall_s);
}

}  // namespace

void run_hbm_stream_command(const KernelRequest& request, const GpuSpec& gpu, const std::string& json) {
  const auto start = std::chrono::steady_clock::now();
  sim::HbmStreamResult result;
  try {
    result = sim::run_hbm_stream(gpu.hbm, *request.hbm_stream);
  } catch (const std::invalid_argument& e) {
    throw UsageError{fmt::format("kernel {}: {}", request.kind, e.what())};
  }
  const double wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!json.empty()) write_json(json, to_json(request, gpu, result, wall_s));
  if (json != "-") fmt::print("{}", to_text(request, gpu, result, wall_s));
}

}  // namespace tessera::cli
