#include "validate/comparison.hpp"

#include <fmt/format.h>

#include <map>

#include "sim/system/kernel_cost.hpp"
#include "validate/replay.hpp"

namespace tessera::validate {

namespace {

std::string key_of(const models::Operator& op, const sim::KernelOptions& options) {
  return fmt::format("{}|{}|{}|{}|{}|{}|{}", models::signature_of(op), options.graph, options.random_data,
                     fmt::join(options.warm_operands, ","), options.launches_before, options.launches_counted,
                     options.share);
}

}  // namespace

sim::KernelResult simulate_with_statistics(const sim::KernelJob& job) {
  sim::KernelOptions options = job.options;
  // What the governor sees of replays is many kernels and the gaps between them.
  if (options.replayed)
    options.fixed_clock_mhz = cost::CostModel{*job.gpu}.cost(job.op, sim::conditions_of(options)).clock_mhz;
  return sim::simulate_kernel(*job.gpu, job.op, options);
}

sim::KernelResult simulate_cycles(const sim::KernelJob& job) {
  sim::KernelResult result = simulate_with_statistics(job);
  result.statistics.clear();
  result.activity.clear();
  return result;
}

sim::KernelJob job_of(const Measurement& row, const GpuSpec& gpu) {
  sim::KernelJob job{.gpu = &gpu, .op = row.op, .options = options_of(row, gpu)};
  job.key = key_of(job.op, job.options);
  return job;
}

double predicted_us(const Measurement& row, const sim::KernelResult& result, const GpuSpec& gpu) {
  return row.conditions.timing == Timing::device ? result.execution.us()
                                                 : replayed_us(row, result.latency.us(), gpu);
}

Comparison compare(Measurements measurements, const GpuSpec& gpu, const CompareOptions& options) {
  std::vector<sim::KernelJob> jobs;
  std::vector<std::size_t> job_of_row;
  std::map<std::string, std::size_t> job_of_key;
  for (const Measurement& row : measurements.rows) {
    sim::KernelJob job = job_of(row, gpu);
    const auto [at, added] = job_of_key.try_emplace(job.key, jobs.size());
    if (added) jobs.push_back(std::move(job));
    job_of_row.push_back(at->second);
  }

  std::vector<sim::KernelOutcome> outcomes(jobs.size());
  const auto ended = [&](std::size_t job, sim::KernelOutcome&& outcome) {
    outcomes[job] = std::move(outcome);
  };
  if (options.cost)
    sim::cost_each(jobs, ended);
  else
    sim::simulate_each(jobs, options.processes, options.simulate ? options.simulate : simulate_cycles, ended,
                       options.progress);

  Comparison comparison;
  for (const sim::KernelOutcome& outcome : outcomes) {
    if (outcome.invalid.empty() && outcome.failure.empty()) ++comparison.simulated;
    comparison.events += outcome.result.events;
  }
  for (std::size_t i = 0; i < measurements.rows.size(); ++i) {
    Measurement& row = measurements.rows[i];
    const sim::KernelOutcome& outcome = outcomes[job_of_row[i]];
    if (!outcome.invalid.empty()) {
      measurements.skip(row.file, row.kind, outcome.invalid);
    } else if (!outcome.failure.empty()) {
      comparison.failed.push_back({std::move(row), outcome.failure});
    } else {
      const double us = predicted_us(row, outcome.result, gpu);
      comparison.rows.push_back({std::move(row), us, outcome.result});
    }
  }
  comparison.skipped = std::move(measurements.skipped);
  return comparison;
}

}  // namespace tessera::validate
