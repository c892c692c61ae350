#include "models/cost/makespan.hpp"

#include <algorithm>

namespace tessera::cost {

void ListSchedule::assign(std::uint64_t count, double duration, std::uint64_t machines) {
  while (count > 0) {
    // Once the loads lie within one piece, a round of pieces raises every machine's alike.
    if (count > machines && levels_.front().load - levels_.back().load <= duration) {
      const std::uint64_t rounds = count / machines;
      for (Level& level : levels_) level.load += static_cast<double>(rounds) * duration;
      count -= rounds * machines;
      continue;
    }
    Level& least = levels_.back();
    const Level raised{least.load + duration, std::min(count, least.machines)};
    count -= raised.machines;
    least.machines -= raised.machines;
    if (least.machines == 0) levels_.pop_back();
    const auto at = std::lower_bound(levels_.begin(), levels_.end(), raised.load,
                                     [](const Level& level, double load) { return level.load > load; });
    if (at != levels_.end() && at->load == raised.load)
      at->machines += raised.machines;
    else
      levels_.insert(at, raised);
  }
}

double ListSchedule::makespan(const std::vector<Batch>& batches, std::uint64_t rounds,
                              std::uint64_t machines) {
  double work = 0, longest = 0;
  std::uint64_t count = 0;
  for (const Batch& b : batches) {
    work += static_cast<double>(b.count) * b.duration;
    count += b.count;
    longest = std::max(longest, b.duration);
  }
  work *= static_cast<double>(rounds);
  count *= rounds;
  // Equal pieces need no shortening: assign() skips whole rounds of them.
  const std::uint64_t exact = batches.size() == 1 ? count : std::min(count, 4 * machines);
  tail_.clear();
  double exact_work = 0;
  for (std::uint64_t left = exact; left > 0;) {
    for (std::size_t i = batches.size(); i-- > 0 && left > 0;) {
      const std::uint64_t n = std::min(left, batches[i].count * (batches.size() == 1 ? rounds : 1));
      tail_.push_back({n, batches[i].duration});
      exact_work += static_cast<double>(n) * batches[i].duration;
      left -= n;
    }
  }
  levels_.clear();
  levels_.push_back({std::max(0.0, work - exact_work) / static_cast<double>(machines), machines});
  for (std::size_t i = tail_.size(); i-- > 0;) assign(tail_[i].count, tail_[i].duration, machines);
  return std::max(longest, levels_.front().load);
}

}  // namespace tessera::cost
