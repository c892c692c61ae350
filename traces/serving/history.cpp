#include "traces/serving/history.hpp"

#include <algorithm>
#include <utility>

namespace tessera::traces {

void StepHistory::put(std::vector<StepRecord>& to, const StepRecord& step) const {
  if (grain_ns_ == 0 || to.empty() || to.back().start_ns / grain_ns_ != step.start_ns / grain_ns_) {
    to.push_back(step);
    return;
  }
  StepRecord& all = to.back();
  all.end_ns = step.end_ns;
  all.gpu_ns += step.gpu_ns;
  all.prefill_tokens += step.prefill_tokens;
  all.decoded_tokens += step.decoded_tokens;
  all.steps += step.steps;
}

void StepHistory::add(const StepRecord& step) {
  put(steps_, step);
  while (steps_.size() > most_) {
    // Twice what they have on average, at first: about every other one is joined to the one before it.
    grain_ns_ = grain_ns_ == 0 ? 2 * (step.end_ns / static_cast<std::int64_t>(most_) + 1) : 2 * grain_ns_;
    std::vector<StepRecord> joined;
    for (const StepRecord& s : steps_) put(joined, s);
    steps_ = std::move(joined);
  }
}

void RequestHistory::add(const RequestRecord& request) {
  if (seen_++ % stride_ != 0) return;
  requests_.push_back(request);
  if (requests_.size() <= most_) return;
  stride_ *= 2;
  for (std::size_t i = 0; 2 * i < requests_.size(); ++i) requests_[i] = requests_[2 * i];
  requests_.resize((requests_.size() + 1) / 2);
}

void SumHistory::add(std::int64_t now_ns, std::vector<double> sums) {
  if (points_.size() >= most_) {
    width_ns_ *= 2;
    std::vector<Point> fewer;
    for (Point& p : points_) {
      if (fewer.empty() || p.at_ns - fewer.back().at_ns >= width_ns_) fewer.push_back(std::move(p));
    }
    points_ = std::move(fewer);
  }
  points_.push_back({now_ns, std::move(sums)});
  next_ns_ = now_ns + width_ns_;
}

ServingHistory::ServingHistory(std::size_t instances, const Limits& limits, Busy busy)
    : busy_{std::move(busy)}, requests_{std::max<std::size_t>(1, limits.requests)} {
  const Instance none{StepHistory{std::max<std::size_t>(1, limits.steps / instances)},
                      SumHistory{limits.intervals},
                      Series{limits.intervals},
                      Series{limits.intervals},
                      Series{limits.intervals},
                      {}};
  instances_.assign(instances, none);
}

void ServingHistory::before_step(std::uint32_t instance, std::int64_t now_ns) {
  SumHistory& busy = instances_[instance].busy;
  if (busy.wants(now_ns)) busy.add(now_ns, busy_(instance));
}

void ServingHistory::step(std::uint32_t instance, const StepRecord& step) {
  instances_[instance].steps.add(step);
}

void ServingHistory::state(std::uint32_t instance, std::int64_t now_ns, const InstanceState& state) {
  Instance& i = instances_[instance];
  i.waiting.hold(now_ns, static_cast<double>(i.now.waiting));
  i.running.hold(now_ns, static_cast<double>(i.now.running));
  i.memory.hold(now_ns, i.now.memory_held);
  i.now = state;
}

void ServingHistory::finish(std::int64_t end_ns) {
  for (std::uint32_t n = 0; n < instances_.size(); ++n) {
    Instance& i = instances_[n];
    state(n, end_ns, i.now);
    if (i.busy.points().empty() || i.busy.points().back().at_ns < end_ns) i.busy.add(end_ns, busy_(n));
  }
}

}  // namespace tessera::traces
