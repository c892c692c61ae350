// What a run costs, and what it gives for that.

#include <fmt/format.h>

#include "cli/run_report.hpp"

namespace tessera::cli {

namespace {

struct Held {
  const GpuSpec& gpu;
  const ManufactureSpec& manufacture;
};

Held held(const Experiment& e, const models::Node& node) {
  return node.kind == models::NodeKind::comp ? Held{e.machine.comp_gpu, e.comp->manufacture}
                                             : Held{e.machine.attn_gpu, e.attn->manufacture};
}

std::string gpus_text(std::size_t n) { return fmt::format("{} GPU{}", n, n == 1 ? "" : "s"); }

}  // namespace

Cost cost_of(const Experiment& e, const models::TaskGraph& graph, const sim::RunResult& run) {
  double rent = 0, capital = 0;  // USD per hour
  std::string no_rent, no_capital;
  for (const models::Node& node : graph.nodes) {
    const Held h = held(e, node);
    if (h.gpu.price_usd_per_hour > 0)
      rent += h.gpu.price_usd_per_hour;
    else
      no_rent = fmt::format("price_usd_per_hour is not stated for {}", h.gpu.name);
    if (h.manufacture.die_mm2 > 0)
      capital += cost::capital_of(h.manufacture, static_cast<double>(h.gpu.hbm.capacity_bytes), e.ownership)
                     .usd_per_hour;
    else
      no_capital = fmt::format("manufacture is not stated for {}", h.gpu.name);
  }
  const double hours = run.latency.seconds() / 3600;
  const bool owned =
      e.money_basis ? *e.money_basis == MoneyBasis::capital : !no_rent.empty() && no_capital.empty();
  const std::size_t n = graph.nodes.size();
  if (!owned) {
    if (!no_rent.empty()) return {0, no_rent};
    return {rent * hours,
            fmt::format("{} at {:.4g} USD per hour in all, for the latency", gpus_text(n), rent)};
  }
  if (!no_capital.empty()) return {0, no_capital};
  return {capital * hours + cost::energy_usd(run.energy_j, e.ownership),
          fmt::format("{} owned, at {:.4g} USD per hour in all (estimated), and energy at {} USD per kWh",
                      gpus_text(n), capital, e.ownership.usd_per_kwh)};
}

Throughput throughput_of(double tokens, const sim::RunResult& run, const Cost& cost) {
  Throughput t{.tokens_per_s = tokens / run.latency.seconds()};
  if (run.energy_j > 0) t.tokens_per_j = tokens / run.energy_j;
  if (cost.usd > 0) t.tokens_per_usd = tokens / cost.usd;
  return t;
}

double tokens_of(const Experiment& e) {
  return static_cast<double>(e.workload.batch) *
         static_cast<double>(e.workload.prefill_tokens + e.workload.decode_steps);
}

}  // namespace tessera::cli
