#include "models/cost/critical_path.hpp"

#include <algorithm>
#include <cstdint>

namespace tessera::cost {

using models::TaskId;

std::vector<TaskId> critical_path(const models::TaskGraph& graph, const Schedule& schedule) {
  constexpr TaskId kNone = UINT32_MAX;
  const std::size_t tasks = graph.tasks.size();
  // Of each kernel, the one before it on its node.
  std::vector<TaskId> before(tasks, kNone), last_on(graph.nodes.size(), kNone);
  TaskId at = kNone;
  for (TaskId t = 0; t < tasks; ++t) {
    if (at == kNone || schedule.end[t] > schedule.end[at]) at = t;
    const models::Task& task = graph.tasks[t];
    if (!std::holds_alternative<models::Compute>(task.work)) continue;
    before[t] = last_on[task.node];
    last_on[task.node] = t;
  }
  std::vector<TaskId> path;
  while (at != kNone) {
    path.push_back(at);
    TaskId latest = before[at];
    for (const TaskId t : graph.tasks[at].after) {
      if (latest == kNone || schedule.end[t] > schedule.end[latest]) latest = t;
    }
    at = latest;
  }
  std::reverse(path.begin(), path.end());
  return path;
}

}  // namespace tessera::cost
