#include "traces/steps/schedule.hpp"

#include <algorithm>
#include <functional>
#include <queue>
#include <stdexcept>
#include <utility>

namespace tessera::traces {

namespace {

using models::TaskId;
constexpr TaskId kNone = UINT32_MAX;

class Schedule {
 public:
  Schedule(const models::TaskGraph& graph, const std::vector<Time>& durations, const FabricSpec& fabric)
      : graph_{graph}, durations_{durations}, fabric_{fabric}, nodes_(graph.nodes.size()) {
    const std::size_t tasks = graph.tasks.size();
    waits_.resize(tasks);
    ready_.resize(tasks);
    cause_.assign(tasks, kNone);
    dependents_.resize(tasks);
    result_.end.resize(tasks);
    result_.busy.resize(nodes_.size());
    result_.attention_busy.resize(nodes_.size());
    for (TaskId t = 0; t < tasks; ++t) {
      waits_[t] = static_cast<std::uint32_t>(graph.tasks[t].after.size());
      for (const TaskId before : graph.tasks[t].after) dependents_[before].push_back(t);
      if (std::holds_alternative<models::Compute>(graph.tasks[t].work))
        nodes_[graph.tasks[t].node].stream.push_back(t);
    }
  }

  Scheduled run() {
    for (TaskId t = 0; t < graph_.tasks.size(); ++t) {
      if (waits_[t] == 0) became_ready(t);
    }
    std::size_t done = 0;
    TaskId last = kNone;
    while (!events_.empty()) {
      const auto [at, task] = events_.top();
      events_.pop();
      ++done;
      if (last == kNone || at > result_.end[last]) last = task;
      for (const TaskId next : dependents_[task]) {
        if (ready_[next] <= at) {
          ready_[next] = at;
          cause_[next] = task;
        }
        if (--waits_[next] == 0) became_ready(next);
      }
    }
    if (done != graph_.tasks.size()) throw std::logic_error{"a task graph's tasks wait for each other"};
    if (last == kNone) return std::move(result_);
    result_.latency = result_.end[last];
    for (TaskId t = last; t != kNone; t = cause_[t]) {
      if (graph_.tasks[t].stage == models::Stage::attention && durations_[t] > Time{})
        result_.attention += durations_[t];
    }
    return std::move(result_);
  }

 private:
  struct Node {
    std::vector<TaskId> stream;
    std::size_t next = 0;
    Time gpu_free, out_free, in_free;
    TaskId last = kNone, last_out = kNone;
  };

  void became_ready(TaskId t) {
    if (std::holds_alternative<models::Transfer>(graph_.tasks[t].work)) return send(t);
    Node& node = nodes_[graph_.tasks[t].node];
    while (node.next < node.stream.size() && waits_[node.stream[node.next]] == 0)
      start(node, node.stream[node.next++]);
  }

  void start(Node& node, TaskId t) {
    if (node.gpu_free > ready_[t]) cause_[t] = node.last;
    const Time begin = max(ready_[t], node.gpu_free);
    node.gpu_free = begin + durations_[t];
    node.last = t;
    const std::uint32_t id = graph_.tasks[t].node;
    result_.busy[id] += durations_[t];
    if (graph_.tasks[t].stage == models::Stage::attention) result_.attention_busy[id] += durations_[t];
    end(t, node.gpu_free);
  }

  void send(TaskId t) {
    const auto& transfer = std::get<models::Transfer>(graph_.tasks[t].work);
    Node& from = nodes_[graph_.tasks[t].node];
    Node& to = nodes_[transfer.destination];
    const std::int64_t packets =
        std::max<std::int64_t>(1, (transfer.bytes + fabric_.packet_bytes - 1) / fabric_.packet_bytes);
    const Time wire = transfer_time(transfer.bytes + packets * fabric_.header_bytes, fabric_.node_gb_per_s);
    if (from.out_free > ready_[t]) cause_[t] = from.last_out;
    const Time begin = max(ready_[t], from.out_free) + Time::from_us(fabric_.message_overhead_us);
    from.out_free = begin + wire;
    from.last_out = t;
    const bool far = graph_.tasks[t].node / static_cast<std::uint32_t>(fabric_.nodes_per_switch) !=
                     transfer.destination / static_cast<std::uint32_t>(fabric_.nodes_per_switch);
    const double hops = far ? 4 : 2, switches = far ? 3 : 1;
    // Stored and forwarded: each switch takes in a whole packet first.
    const Time packet = transfer_time(std::min(transfer.bytes, fabric_.packet_bytes) + fabric_.header_bytes,
                                      fabric_.node_gb_per_s);
    const Time path =
        Time::from_ns(2 * fabric_.endpoint_latency_ns + hops * fabric_.link_latency_ns +
                      switches * fabric_.switch_latency_ns + (far ? fabric_.core_latency_ns : 0)) +
        packet * static_cast<std::int64_t>(switches);
    to.in_free = max(begin + path, to.in_free) + wire;
    end(t, to.in_free);
  }

  void end(TaskId t, Time at) {
    result_.end[t] = at;
    events_.push({at, t});
  }

  const models::TaskGraph& graph_;
  const std::vector<Time>& durations_;
  const FabricSpec& fabric_;
  std::vector<Node> nodes_;
  std::vector<std::uint32_t> waits_;
  std::vector<Time> ready_;
  std::vector<TaskId> cause_;  // what its start waited for
  std::vector<std::vector<TaskId>> dependents_;
  using Event = std::pair<Time, TaskId>;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  Scheduled result_;
};

}  // namespace

Scheduled schedule(const models::TaskGraph& graph, const std::vector<Time>& duration_of_task,
                   const FabricSpec& fabric) {
  return Schedule{graph, duration_of_task, fabric}.run();
}

}  // namespace tessera::traces
