#include "validate/explain.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "validate/comparison.hpp"

namespace tessera::validate {

namespace {

std::string percent(double share) { return fmt::format("{:.0f} %", 100 * share); }

std::string stages_text(const Measurement& row, const sim::KernelResult& result) {
  std::string text =
      fmt::format("\n  {:<44} | {}\n", "simulated kernels", "measured stages, each replayed by itself");
  const std::size_t lines = std::max(result.executions.size(), row.stages.size());
  for (std::size_t i = 0; i < lines; ++i) {
    const std::string left =
        i < result.executions.size()
            ? fmt::format("{:<30} {:>10.2f} us", result.kernels[i], result.executions[i].us())
            : "";
    const std::string right =
        i < row.stages.size() ? fmt::format("{:<20} {:>10.2f} us", row.stages[i].name, row.stages[i].us) : "";
    text += fmt::format("  {:<44} | {}\n", left, right);
  }
  text +=
      fmt::format("  {:<30} {:>10.2f} us |\n", "launches and gaps", (result.latency - result.execution).us());
  if (!row.stages.empty()) {
    double measured = 0;
    for (const MeasuredStage& stage : row.stages) measured += stage.us;
    text += fmt::format(
        "  The stages add up to {:.2f} us, the call takes {:.2f}: each stage alone has a launch gap, and its "
        "operands "
        "warmer.\n",
        measured, row.measured_us);
  } else {
    text += "  The file tells no stages of this row; `tessera measure` does (timing: {stages: true}).\n";
  }
  return text;
}

}  // namespace

std::string explain(const Measurement& row, const sim::KernelResult& result, const GpuSpec& gpu) {
  const double simulated = predicted_us(row, result, gpu), measured = row.measured_us;
  std::string text =
      fmt::format("{}:{}: {} {}\n", row.file.filename().string(), row.line, row.kind, shape_text(row));
  text += fmt::format("  measured {:.2f} us, simulated {:.2f} us: {:+.1f} %\n", measured, simulated,
                      100 * (simulated / measured - 1));
  text += stages_text(row, result);

  const double flops = models::flops_of(row.op), bytes = static_cast<double>(models::min_bytes_of(row.op)),
               hbm = static_cast<double>(result.hbm_read_bytes + result.hbm_write_bytes),
               peak_tflops = gpu.sms() * gpu.sm.tensor_flops_per_cycle * gpu.boost_clock_mhz * 1e-6,
               peak_gbs = gpu.hbm.peak_bytes_per_us() * 1e-3;
  const auto rates = [&](const char* name, double us) {
    return fmt::format(
        "  {:<10} {:>8.1f} TFLOP/s ({} of the tensor peak), operands at {:>7.0f} GB/s ({} of HBM's)\n", name,
        flops / us * 1e-6, percent(flops / us * 1e-6 / peak_tflops), bytes / us * 1e-3,
        percent(bytes / us * 1e-3 / peak_gbs));
  };
  text += "\n" + rates("measured", measured) + rates("simulated", simulated);
  text += fmt::format(
      "\n  simulated: limited by {}, SM clock {:.0f} MHz, {:.1f} MB of HBM ({:.1f} MB of operands), {} of L2 "
      "reads hit\n",
      result.bottleneck, result.clock_mhz, hbm * 1e-6, bytes * 1e-6, percent(result.l2_hit_rate));
  std::vector<std::pair<double, std::string>> shares;
  for (const auto& [name, share] : result.utilization) shares.emplace_back(-share, name);
  std::sort(shares.begin(), shares.end());
  text += "  busy while executing:";
  for (const auto& [negative, name] : shares) text += fmt::format(" {} {}", name, percent(-negative));
  text += "\n";

  // What the difference would have to be, if one assumption alone were off.
  const double gap = measured - simulated;
  text += fmt::format("\n  The difference of {:+.2f} us would be", gap);
  text += fmt::format(" {:+.2f} launch gaps of {:.2f} us", gap / gpu.launch.graph_launch_us,
                      gpu.launch.graph_launch_us);
  const double busiest = shares.empty() ? 0 : -shares.front().first;
  if (busiest > 0.05 && result.execution.us() > 0) {
    const double needed = 1 + gap / result.execution.us();
    if (needed > 0)
      text += fmt::format(", or the execution {} as fast (a clock of {:.0f} MHz, were it all compute)",
                          percent(1 / needed), result.clock_mhz / needed);
  }
  text += ".\n";
  return text;
}

}  // namespace tessera::validate
