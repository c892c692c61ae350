#include "sim/node/node.hpp"

#include <fmt/format.h>

#include <stdexcept>

namespace tessera::sim {

namespace {
const models::Transfer* transfer_of(const models::Task& task) {
  return std::get_if<models::Transfer>(&task.work);
}
}  // namespace

std::string describe(const models::TaskGraph& graph, models::TaskId id) {
  const models::Task& t = graph.tasks[id];
  const std::string when = t.step < 0 ? "prefill" : fmt::format("decode step {}", t.step);
  const std::string where = t.layer < 0 ? "" : fmt::format(" of layer {}", t.layer);
  return fmt::format("{}{} ({}) on {}", models::name_of(t.stage), where, when, graph.nodes[t.node].name);
}

Dependents dependents_of(const models::TaskGraph& graph) {
  Dependents d;
  d.local.resize(graph.tasks.size());
  d.remote.resize(graph.tasks.size());
  for (models::TaskId id = 0; id < graph.tasks.size(); ++id) {
    for (const models::TaskId before : graph.tasks[id].after) {
      if (before >= id)
        throw std::logic_error{fmt::format("task {} depends on task {}, which is not before it", id, before)};
      const models::Task& from = graph.tasks[before];
      const models::Transfer* transfer = transfer_of(from);
      if (from.node == graph.tasks[id].node)
        d.local[before].push_back(id);
      else if (transfer != nullptr && transfer->destination == graph.tasks[id].node)
        d.remote[before].push_back(id);
      else
        throw std::logic_error{fmt::format("{} depends on {} without a message between them",
                                           describe(graph, id), describe(graph, before))};
    }
  }
  return d;
}

Node::Node(sc_core::sc_module_name name, std::uint32_t index, const models::TaskGraph& graph,
           const Dependents& dependents, const std::vector<Time>& durations, std::vector<TaskTiming>& timings)
    : EventModule{name},
      index_{index},
      graph_{graph},
      dependents_{dependents},
      durations_{durations},
      timings_{timings},
      waits_for_(graph.tasks.size(), 0) {
  for (models::TaskId id = 0; id < graph.tasks.size(); ++id) {
    const models::Task& t = graph.tasks[id];
    if (t.node != index) continue;
    ++tasks_;
    waits_for_[id] = static_cast<std::uint32_t>(t.after.size());
    if (transfer_of(t) == nullptr) stream_.push_back(id);
  }
  schedule(Time{}, NodeEvent{.kind = NodeEvent::Kind::start});
}

void Node::handle(Time now, const NodeEvent& event) {
  switch (event.kind) {
    case NodeEvent::Kind::start:
      for (models::TaskId id = 0; id < graph_.tasks.size(); ++id) {
        const models::Task& t = graph_.tasks[id];
        if (t.node == index_ && t.after.empty() && transfer_of(t) != nullptr) start_send(now, id);
      }
      run_stream(now);
      break;
    case NodeEvent::Kind::kernel_done:
      stream_busy_ = false;
      ++completed_;
      complete(now, dependents_.local[event.id]);
      run_stream(now);
      break;
    case NodeEvent::Kind::message_sent:
      ++completed_;
      complete(now, dependents_.local[event.id]);
      run_stream(now);
      break;
    case NodeEvent::Kind::message_received:
      timings_[event.id].end = now;
      complete(now, dependents_.remote[event.id]);
      run_stream(now);
      break;
  }
}

void Node::complete(Time now, const std::vector<models::TaskId>& dependents) {
  for (const models::TaskId id : dependents) {
    if (--waits_for_[id] == 0 && transfer_of(graph_.tasks[id]) != nullptr) start_send(now, id);
  }
}

void Node::start_send(Time now, models::TaskId id) {
  const models::Transfer& transfer = *transfer_of(graph_.tasks[id]);
  timings_[id].start = now;
  to_nic.send(now, NicEvent{.kind = NicEvent::Kind::send,
                            .packet = {.message = id, .destination = transfer.destination},
                            .bytes = transfer.bytes});
}

void Node::run_stream(Time now) {
  if (stream_busy_ || next_in_stream_ == stream_.size()) return;
  const models::TaskId id = stream_[next_in_stream_];
  if (waits_for_[id] != 0) return;
  ++next_in_stream_;
  stream_busy_ = true;
  timings_[id].start = now + Time::from_us(graph_.tasks[id].host_us);
  timings_[id].end = timings_[id].start + durations_[id];
  compute_busy_ += durations_[id];
  schedule(timings_[id].end, NodeEvent{.kind = NodeEvent::Kind::kernel_done, .id = id});
}

void Node::describe_stuck(std::vector<std::string>& out) const {
  if (next_in_stream_ == stream_.size()) return;
  const models::TaskId id = stream_[next_in_stream_];
  out.push_back(
      fmt::format("{}: {} lacks {} of what it depends on", name(), describe(graph_, id), waits_for_[id]));
}

}  // namespace tessera::sim
