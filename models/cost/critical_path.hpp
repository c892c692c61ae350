#pragma once
// Which tasks of a scheduled graph determined when it ended.

#include <vector>

#include "models/cost/schedule.hpp"
#include "models/dataflow/task_graph.hpp"

namespace tessera::cost {

/// The first to the last of a chain of tasks: each but the first waited for the one before it, as for a
/// dependency or, of a kernel, for the kernel before it on its GPU, and for nothing that ended later. Empty
/// for a graph without tasks.
std::vector<models::TaskId> critical_path(const models::TaskGraph& graph, const Schedule& schedule);

}  // namespace tessera::cost
