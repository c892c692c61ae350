#pragma once
// Hands a sweep's points out to a crew and records what comes back.

#include <cstdint>
#include <vector>

#include "cli/sweep/crew.hpp"
#include "cli/sweep/store.hpp"
#include "cli/sweep/sweep.hpp"

namespace tessera::cli {

/// Which points are ours: those whose number leaves the remainder `index`.
struct Shard {
  std::int64_t index = 0, count = 1;
};

/// What a member of the crew does. Both must outlive it.
Work sweep_work(const Sweep& sweep, const std::vector<Point>& points);

/// Evaluates what the store lacks, and shows progress. With several shards a funnel ends before its second
/// stage: its front is known only when all are merged.
void conduct(const Sweep& sweep, const std::vector<Point>& points, Shard shard, Store& store, Crew& crew);

}  // namespace tessera::cli
