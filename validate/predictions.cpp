#include "validate/predictions.hpp"

#include <fmt/format.h>

#include <set>
#include <stdexcept>
#include <utility>

#include "validate/comparison.hpp"

namespace tessera::validate {

Predictions::Predictions(const std::vector<Measurement>& rows, GpuAt gpu_at, EvaluateJobs evaluate)
    : rows_{rows}, gpu_at_{std::move(gpu_at)}, evaluate_{std::move(evaluate)} {}

Predictions::At& Predictions::at(const Point& point) {
  const auto [found, added] = at_.try_emplace(point);
  At& a = found->second;
  if (added) {
    a.gpu = gpu_at_(point);
    for (const Measurement& row : rows_) a.keys.push_back(job_of(row, a.gpu).key);
  }
  return a;
}

void Predictions::prepare(const std::vector<Wanted>& wanted, const std::string& what) {
  std::vector<sim::KernelJob> jobs;
  std::vector<At*> places;
  std::set<std::pair<const At*, std::string>> asked;
  for (const Wanted& w : wanted) {
    At& a = at(w.point);
    for (const std::size_t row : w.rows) {
      const std::string& key = a.keys[row];
      if (a.outcomes.contains(key) || !asked.insert({&a, key}).second) continue;
      jobs.push_back(job_of(rows_[row], a.gpu));
      places.push_back(&a);
    }
  }
  if (jobs.empty()) return;
  std::vector<sim::KernelOutcome> outcomes = evaluate_(jobs, what);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    events_ += outcomes.at(i).result.events;
    places[i]->outcomes[jobs[i].key] = std::move(outcomes[i]);
  }
  simulated_ += jobs.size();
}

const sim::KernelOutcome& Predictions::outcome(const Point& point, std::size_t row) const {
  const At& a = at_.at(point);
  return a.outcomes.at(a.keys[row]);
}

double Predictions::us(const Point& point, std::size_t row) const {
  const sim::KernelOutcome& o = outcome(point, row);
  const std::string& reason = o.invalid.empty() ? o.failure : o.invalid;
  const Measurement& m = rows_[row];
  if (!reason.empty()) throw std::runtime_error{fmt::format("{}:{}: {}", m.file.string(), m.line, reason)};
  const double us = predicted_us(m, o.result);
  if (!(us > 0)) throw std::runtime_error{fmt::format("{}:{}: simulated in no time", m.file.string(), m.line)};
  return us;
}

std::string Predictions::key(const Point& point, std::size_t row) const { return at_.at(point).keys[row]; }

}  // namespace tessera::validate
