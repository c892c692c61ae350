#include "validate/predictions.hpp"

#include <fmt/format.h>

#include <set>
#include <stdexcept>
#include <utility>

#include "validate/comparison.hpp"
#include "validate/replay.hpp"

namespace tessera::validate {

Predictions::Predictions(const std::vector<Measurement>& rows, GpuAt gpu_at, EvaluateJobs evaluate)
    : rows_{rows}, gpu_at_{std::move(gpu_at)}, evaluate_{std::move(evaluate)} {}

Predictions::At& Predictions::at(const Point& point) {
  const auto [found, added] = at_.try_emplace(point);
  At& a = found->second;
  if (added) {
    a.gpu = gpu_at_(point);
    a.times.resize(rows_.size());
    std::map<std::string, std::size_t> first;
    for (std::size_t row = 0; row < rows_.size(); ++row)
      a.first.push_back(first.try_emplace(job_of(rows_[row], a.gpu).key, row).first->second);
  }
  return a;
}

void Predictions::prepare(const std::vector<Wanted>& wanted, const std::string& what) {
  std::vector<sim::KernelJob> jobs;
  std::vector<std::pair<At*, std::size_t>> places;
  std::set<std::pair<const At*, std::size_t>> asked;
  for (const Wanted& w : wanted) {
    At& a = at(w.point);
    for (const std::size_t row : w.rows) {
      const std::size_t first = a.first[row];
      if (a.times[first].latency_us >= 0 || a.troubles.contains(first) || !asked.insert({&a, first}).second)
        continue;
      jobs.push_back(job_of(rows_[first], a.gpu));
      places.emplace_back(&a, first);
    }
  }
  if (jobs.empty()) return;
  const std::vector<sim::KernelOutcome> outcomes = evaluate_(jobs, what);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const sim::KernelOutcome& o = outcomes.at(i);
    const auto [a, first] = places[i];
    if (!o.invalid.empty() || !o.failure.empty())
      a->troubles[first] = {o.invalid, o.failure};
    else
      a->times[first] = {o.result.latency.us(), o.result.execution.us()};
    events_ += o.result.events;
  }
  simulated_ += jobs.size();
}

Predictions::Trouble Predictions::trouble(const Point& point, std::size_t row) const {
  const At& a = at_.at(point);
  const auto found = a.troubles.find(a.first[row]);
  return found == a.troubles.end() ? Trouble{} : found->second;
}

double Predictions::us(const Point& point, std::size_t row) const {
  const At& a = at_.at(point);
  const Times& times = a.times[a.first[row]];
  const Measurement& m = rows_[row];
  const bool device = m.conditions.timing == Timing::device;
  const double us = device ? times.execution_us : times.latency_us;
  if (us > 0) return device ? us : replayed_us(m, us, a.gpu);
  const Trouble why = trouble(point, row);
  const std::string& reason = why.invalid.empty() ? why.failure : why.invalid;
  throw std::runtime_error{
      fmt::format("{}:{}: {}", m.file.string(), m.line, reason.empty() ? "is simulated in no time" : reason)};
}

std::string Predictions::key(const Point& point, std::size_t row) const {
  return job_of(rows_[row], at_.at(point).gpu).key;
}

void Predictions::adopt(const Predictions& other, const Point& point, const std::vector<std::size_t>& rows) {
  At& here = at(point);
  const At& there = other.at_.at(point);
  for (std::size_t row = 0; row < rows.size(); ++row)
    here.times[here.first[row]] = there.times[there.first[rows[row]]];
}

}  // namespace tessera::validate
