#include "sim/system/kernel_cost.hpp"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <stdexcept>

namespace tessera::sim {

cost::Conditions conditions_of(const KernelOptions& options) {
  return {.graph = options.graph,
          .random_data = options.random_data,
          .warm_operands = options.warm_operands,
          .replayed = options.replayed,
          .launches_before = options.launches_before,
          .launches_counted = options.launches_counted};
}

KernelResult result_of(const cost::Cost& c) {
  KernelResult r;
  r.latency = Time::from_us(c.latency_us);
  r.execution = Time::from_us(c.execution_us);
  r.clock_mhz = c.clock_mhz;
  r.cycles = c.latency_us * c.clock_mhz;
  r.flops = c.flops;
  r.bottleneck = c.bottleneck;
  const cost::Utilization& u = c.utilization;
  r.utilization = {{"tensor", u.tensor}, {"fp32", u.fp32}, {"mufu", u.mufu}, {"shared", u.shared},
                   {"issue", u.issue},   {"l2", u.l2},     {"hbm", u.hbm}};
  r.l2_bytes = std::llround(c.l2_bytes);
  r.hbm_read_bytes = std::llround(c.hbm_read_bytes);
  r.hbm_write_bytes = std::llround(c.hbm_write_bytes);
  r.l2_hit_rate = c.l2_hit_rate;
  r.energy_j = c.energy_j;
  r.operations = static_cast<std::uint64_t>(std::llround(c.operations));
  r.kernels = c.kernels;
  for (const double us : c.executions_us) r.executions.push_back(Time::from_us(us));
  return r;
}

KernelResult cost_one(cost::CostModel& model, const KernelJob& job) {
  try {
    return result_of(model.cost(job.op, conditions_of(job.options)));
  } catch (const std::invalid_argument&) {
    throw;
  } catch (const std::exception& e) {
    throw std::runtime_error{fmt::format("{}: {}", models::signature_of(job.op), e.what())};
  }
}

void cost_each(const std::vector<KernelJob>& jobs,
               const std::function<void(std::size_t, KernelOutcome&&)>& ended) {
  std::map<const GpuSpec*, cost::CostModel> costs;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    KernelOutcome outcome;
    try {
      outcome.result = cost_one(costs.try_emplace(jobs[i].gpu, *jobs[i].gpu).first->second, jobs[i]);
    } catch (const std::invalid_argument& e) {
      outcome.invalid = e.what();
    } catch (const std::exception& e) {
      outcome.failure = e.what();
    }
    ended(i, std::move(outcome));
  }
}

GpuCosts& CostMemory::of(const std::string& key, const GpuSpec& gpu) {
  constexpr std::size_t kMost = 512;  // a sweep over hardware may see any number
  if (const auto known = gpus_.find(key); known != gpus_.end()) return known->second;
  if (gpus_.size() >= kMost) gpus_.clear();
  return gpus_.try_emplace(key, gpu).first->second;
}

std::vector<KernelResult> cost_all(const std::vector<KernelJob>& jobs, const MachineSpec& machine,
                                   const RunMemory& memory) {
  std::vector<KernelResult> results(jobs.size());
  CostMemory own;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const KernelJob& job = jobs[i];
    const bool comp = job.gpu == &machine.comp_gpu;
    GpuCosts& known = memory.costs != nullptr
                          ? memory.costs->of(comp ? machine.comp_key : machine.attn_key, *job.gpu)
                          : own.of(comp ? "comp" : "attn", *job.gpu);
    auto at = known.results.find(job.key);
    if (at == known.results.end()) at = known.results.emplace(job.key, cost_one(known.model, job)).first;
    results[i] = at->second;
  }
  return results;
}

}  // namespace tessera::sim
