#include "traces/steps/kernel_prices.hpp"

#include <fmt/format.h>

#include "sim/system/kernel_cost.hpp"

namespace tessera::traces {

std::vector<sim::KernelResult> KernelPrices::priced(const std::vector<sim::KernelJob>& jobs) {
  if (model_ == Model::cycle) {
    const auto simulate = [](const sim::KernelJob& job) {
      return sim::simulate_kernel(*job.gpu, job.op, job.options);
    };
    return sim::simulate_all(jobs, jobs_, simulate, progress_);
  }
  std::vector<sim::KernelResult> results;
  for (const sim::KernelJob& job : jobs)
    results.push_back(sim::cost_one(costs_.try_emplace(job.gpu, *job.gpu).first->second, job));
  return results;
}

std::string KernelPrices::memo_key(const sim::KernelJob& job) const {
  return fmt::format("{} {}", job.gpu == comp_ ? "comp" : "attn", job.key);
}

std::vector<sim::KernelResult> KernelPrices::operator()(const std::vector<sim::KernelJob>& jobs) {
  // Two GPUs of one name may differ (--set hardware.attn...): the job's key does not say so.
  const auto key = [](const sim::KernelJob& job) { return fmt::format("{}|{}", fmt::ptr(job.gpu), job.key); };
  std::vector<sim::KernelJob> unknown;
  std::vector<std::string> keys;
  for (const sim::KernelJob& job : jobs) {
    std::string k = key(job);
    if (known_.count(k) != 0) continue;
    if (sim::KernelResult kept; memo_ != nullptr && memo_->find(memo_key(job), kept)) {
      known_.emplace(std::move(k), std::move(kept));
      continue;
    }
    unknown.push_back(job);
    keys.push_back(std::move(k));
  }
  if (!unknown.empty()) {
    std::vector<sim::KernelResult> results = priced(unknown);
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (memo_ != nullptr) memo_->add(memo_key(unknown[i]), results[i]);
      known_.emplace(keys[i], std::move(results[i]));
    }
    if (memo_ != nullptr) memo_->save();
  }
  std::vector<sim::KernelResult> all;
  for (const sim::KernelJob& job : jobs) all.push_back(known_.at(key(job)));
  return all;
}

}  // namespace tessera::traces
