#pragma once
// A timeline of a replay: a process per instance with a track of its steps, lanes of its requests and
// counters (requests waiting and running, cache memory held, how busy its nodes were).

#include <string>
#include <vector>

#include "cli/timeline.hpp"
#include "traces/serving/history.hpp"

namespace tessera::cli {

/// What a simulation of `instances` instances of `nodes` nodes keeps for a timeline of that detail.
traces::ServingHistory::Limits limits_of(const Detail& detail, std::size_t instances, std::size_t nodes);

/// `nodes`: names of an instance's. A request takes the first lane that is free when it begins, a slice for
/// its prefill and one for decoding; an arrow leads from one to the other if they are on different instances.
void draw_replay(traces::Timeline& timeline, const traces::ServingHistory& history,
                 const std::vector<std::string>& nodes);

}  // namespace tessera::cli
