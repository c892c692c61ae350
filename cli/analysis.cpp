#include "cli/analysis.hpp"

#include <algorithm>
#include <initializer_list>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

namespace tessera::cli {

namespace {

using models::Task;
using models::TaskGraph;
using models::TaskId;

struct Interval {
  Time begin, end;
};

bool is_kernel(const Task& task) { return std::holds_alternative<models::Compute>(task.work); }

std::size_t index_of(models::Stage stage) { return static_cast<std::size_t>(stage); }

/// Sorted, disjoint.
std::vector<Interval> merged(std::vector<Interval> intervals) {
  const auto earlier = [](const Interval& a, const Interval& b) { return a.begin < b.begin; };
  if (!std::is_sorted(intervals.begin(), intervals.end(), earlier))
    std::sort(intervals.begin(), intervals.end(), earlier);
  std::vector<Interval> result;
  for (const Interval& i : intervals) {
    if (!result.empty() && i.begin <= result.back().end) {
      result.back().end = max(result.back().end, i.end);
    } else {
      result.push_back(i);
    }
  }
  return result;
}

Time total(const std::vector<Interval>& disjoint) {
  Time sum;
  for (const Interval& i : disjoint) sum += i.end - i.begin;
  return sum;
}

/// The part of `a` that `b` does not cover; both sorted and disjoint.
Time total_outside(const std::vector<Interval>& a, const std::vector<Interval>& b) {
  Time sum = total(a);
  std::size_t j = 0;
  for (const Interval& i : a) {
    while (j < b.size() && b[j].end <= i.begin) ++j;
    for (std::size_t k = j; k < b.size() && b[k].begin < i.end; ++k) {
      sum -= min(i.end, b[k].end) - max(i.begin, b[k].begin);
    }
  }
  return sum;
}

/// For each kernel, the kernel before it on its node.
std::vector<std::optional<TaskId>> previous_kernels(const TaskGraph& graph) {
  std::vector<std::optional<TaskId>> previous(graph.tasks.size());
  std::vector<std::optional<TaskId>> last(graph.nodes.size());
  for (TaskId t = 0; t < graph.tasks.size(); ++t) {
    const Task& task = graph.tasks[t];
    if (!is_kernel(task)) continue;
    previous[t] = last[task.node];
    last[task.node] = t;
  }
  return previous;
}

/// A kernel occupies its stream for KernelResult::latency, scaled where the kernel was interpolated.
Time execution_start(const sim::RunResult& run, TaskId kernel) {
  const sim::TaskTiming& timing = run.tasks[kernel];
  const sim::KernelResult& result = run.kernels[timing.kernel].result;
  if (result.latency <= result.execution) return timing.start;
  const double share = result.execution.us() / result.latency.us();
  return timing.end - Time::from_us((timing.end - timing.start).us() * share);
}

std::vector<PathSpan> walk_back(const TaskGraph& graph, const sim::RunResult& run,
                                const std::vector<std::optional<TaskId>>& previous, TaskId last, Time from) {
  std::vector<PathSpan> spans;
  Time cursor = run.tasks[last].end;
  std::optional<TaskId> at = last;
  while (at && cursor > from) {
    const TaskId id = *at;
    const Task& task = graph.tasks[id];
    const bool kernel = is_kernel(task);
    std::optional<TaskId> before = previous[id];
    for (const TaskId dependency : task.after) {
      if (!before || run.tasks[dependency].end > run.tasks[*before].end) before = dependency;
    }
    const Time ready = std::clamp(before ? run.tasks[*before].end : from, from, cursor);
    if (kernel) {
      const Time executes = std::clamp(execution_start(run, id), ready, cursor);
      if (executes < cursor) spans.push_back({PathSpan::Kind::kernel, id, executes, cursor});
      const Time starts = task.host_us > 0 ? std::clamp(run.tasks[id].start, ready, executes) : ready;
      if (starts < executes) spans.push_back({PathSpan::Kind::launch, id, starts, executes});
      if (ready < starts) spans.push_back({PathSpan::Kind::host, id, ready, starts});
    } else if (ready < cursor) {
      spans.push_back({PathSpan::Kind::transfer, id, ready, cursor});
    }
    cursor = ready;
    at = before;
  }
  std::reverse(spans.begin(), spans.end());
  return spans;
}

/// What a message of no bytes takes between two nodes of an idle network.
Time unloaded_latency(const FabricSpec& fabric, std::uint32_t a, std::uint32_t b) {
  const auto per_switch = static_cast<std::uint32_t>(fabric.nodes_per_switch);
  double ns = 2 * fabric.endpoint_latency_ns + fabric.message_overhead_us * 1e3 + 2 * fabric.link_latency_ns +
              fabric.switch_latency_ns;
  if (a / per_switch != b / per_switch)
    ns += 2 * (fabric.link_latency_ns + fabric.switch_latency_ns) + fabric.core_latency_ns;
  return Time::from_ns(ns);
}

/// Microseconds by what held a span. Names live as long as the run's results.
class Limits {
 public:
  void add(std::string_view name, double us) {
    const auto at =
        std::find_if(times_.begin(), times_.end(), [&](const auto& t) { return t.first == name; });
    if (at != times_.end())
      at->second += us;
    else
      times_.emplace_back(name, us);
  }
  /// Shares of all, largest first, and those that are equal by name.
  std::vector<LimitShare> shares() const {
    auto by_name = times_;
    std::sort(by_name.begin(), by_name.end());
    double sum = 0;
    for (const auto& [name, us] : by_name) sum += us;
    std::vector<LimitShare> shares;
    for (const auto& [name, us] : by_name) shares.push_back({std::string{name}, sum > 0 ? us / sum : 0});
    std::stable_sort(shares.begin(), shares.end(),
                     [](const LimitShare& a, const LimitShare& b) { return a.share > b.share; });
    return shares;
  }

 private:
  std::vector<std::pair<std::string_view, double>> times_;
};

/// Adds a span's time to the resources that held it, in each list.
void add_limits(const PathSpan& span, const TaskGraph& graph, const sim::RunResult& run,
                const FabricSpec& fabric, std::initializer_list<Limits*> lists) {
  const auto add = [&](std::string_view name, Time time) {
    for (Limits* limits : lists) limits->add(name, time.us());
  };
  const Time taken = span.end - span.begin;
  const Task& task = graph.tasks[span.task];
  if (span.kind == PathSpan::Kind::host) {
    add("host", taken);
  } else if (span.kind == PathSpan::Kind::launch) {
    add("launch", taken);
  } else if (span.kind == PathSpan::Kind::kernel) {
    // A kernel named for its launch executes for less time than that: dependent latencies, no pipe in use for
    // long.
    const std::string& bottleneck = run.kernels[run.tasks[span.task].kernel].result.bottleneck;
    add(bottleneck == "launch" ? "latency" : std::string_view{bottleneck}, taken);
  } else {
    const auto& transfer = std::get<models::Transfer>(task.work);
    const Time latency = min(taken, unloaded_latency(fabric, task.node, transfer.destination));
    const bool wire_bound =
        transfer_time(transfer.bytes, fabric.node_gb_per_s).us() >= fabric.message_overhead_us;
    add("interconnect latency", latency);
    add(wire_bound ? "interconnect bandwidth" : "interconnect message rate", taken - latency);
  }
}

void add_uses(const TaskGraph& graph, const sim::RunResult& run, Analysis& analysis) {
  std::map<models::NodeKind, int> nodes;
  for (const models::Node& node : graph.nodes) ++nodes[node.kind];
  struct Shares {
    double tensor, mufu, hbm, l2;
  };
  std::vector<Shares> shares;  // by kernel
  for (const sim::KernelUse& k : run.kernels) {
    const auto of = [&](const char* name) {
      const auto share = k.result.utilization.find(name);
      return share == k.result.utilization.end() ? 0.0 : share->second;
    };
    shares.push_back({of("tensor"), of("mufu"), of("hbm"), of("l2")});
  }
  for (TaskId t = 0; t < graph.tasks.size(); ++t) {
    const Task& task = graph.tasks[t];
    if (!is_kernel(task)) continue;
    Phase& phase = task.step < 0 ? analysis.prefill : analysis.decode;
    if (phase.latency_us <= 0) continue;
    const models::NodeKind kind = graph.nodes[task.node].kind;
    PhaseUse& use = kind == models::NodeKind::comp ? phase.comp : phase.attn;
    const double of_peak = phase.latency_us * nodes[kind];
    const double executing = (run.tasks[t].end - execution_start(run, t)).us() / of_peak;
    const Shares& of = shares[run.tasks[t].kernel];
    use.busy += (run.tasks[t].end - run.tasks[t].start).us() / of_peak;
    use.tensor += executing * of.tensor;
    use.mufu += executing * of.mufu;
    use.hbm += executing * of.hbm;
    use.l2 += executing * of.l2;
  }
}

}  // namespace

std::vector<PathSpan> critical_path(const TaskGraph& graph, const sim::RunResult& run, TaskId last,
                                    Time from) {
  return walk_back(graph, run, previous_kernels(graph), last, from);
}

Analysis analyse(const TaskGraph& graph, const sim::RunResult& run, const FabricSpec& fabric) {
  Analysis analysis;
  int steps = 0, layers = 0;
  for (const Task& task : graph.tasks) {
    steps = std::max(steps, task.step + 1);
    layers = std::max(layers, task.layer + 1);
  }
  for (int layer = -1; layer < layers; ++layer) analysis.layers.push_back({.layer = layer});

  // Where each step ends; a step begins where the one before it ended.
  std::vector<std::optional<TaskId>> last(static_cast<std::size_t>(steps) + 1);
  for (TaskId t = 0; t < graph.tasks.size(); ++t) {
    auto& best = last[static_cast<std::size_t>(graph.tasks[t].step + 1)];
    if (!best || run.tasks[t].end > run.tasks[*best].end) best = t;
  }

  const auto previous = previous_kernels(graph);
  Limits limits, prefill_limits, decode_limits;
  std::vector<Limits> prefill_of_layer(analysis.layers.size()), decode_of_layer(analysis.layers.size());
  Time from;
  for (std::size_t s = 0; s < last.size(); ++s) {
    if (!last[s]) continue;
    const bool prefill = s == 0;
    Phase& phase = prefill ? analysis.prefill : analysis.decode;
    const Time end = max(run.tasks[*last[s]].end, from);
    phase.latency_us += (end - from).us();
    ++phase.steps;
    for (const PathSpan& span : walk_back(graph, run, previous, *last[s], from)) {
      const Task& task = graph.tasks[span.task];
      const std::size_t stage = index_of(task.stage);
      const double us = (span.end - span.begin).us();
      LayerTimes& layer = analysis.layers[static_cast<std::size_t>(task.layer + 1)];
      (prefill ? layer.prefill_us : layer.decode_us) += us;
      if (span.kind == PathSpan::Kind::host) {
        phase.host_us += us;
      } else if (span.kind == PathSpan::Kind::launch) {
        phase.launch_us += us;
      } else {
        phase.stages[stage].critical_us += us;
        (prefill ? layer.prefill_stages : layer.decode_stages)[stage] += us;
        if (!is_kernel(task)) phase.exposed_communication_us += us;
      }
      add_limits(span, graph, run, fabric,
                 {&limits, prefill ? &prefill_limits : &decode_limits,
                  &(prefill ? prefill_of_layer : decode_of_layer)[static_cast<std::size_t>(task.layer + 1)]});
    }
    from = end;
  }

  for (const bool prefill : {true, false}) {
    Phase& phase = prefill ? analysis.prefill : analysis.decode;
    std::array<std::vector<Interval>, models::kStages> stages;
    std::vector<Interval> kernels, messages;
    for (TaskId t = 0; t < graph.tasks.size(); ++t) {
      const Task& task = graph.tasks[t];
      const Interval interval{run.tasks[t].start, run.tasks[t].end};
      // A kernel of any phase hides a message of this one.
      if (is_kernel(task)) kernels.push_back(interval);
      if ((task.step < 0) != prefill) continue;
      if (!is_kernel(task)) messages.push_back(interval);
      stages[index_of(task.stage)].push_back(interval);
    }
    for (std::size_t s = 0; s < stages.size(); ++s) {
      phase.stages[s].tasks = stages[s].size();
      phase.stages[s].elapsed_us = total(merged(std::move(stages[s]))).us();
    }
    phase.network_only_us = total_outside(merged(std::move(messages)), merged(std::move(kernels))).us();
  }

  if (analysis.decode.steps > 0) {
    for (LayerTimes& layer : analysis.layers) {
      layer.decode_us /= analysis.decode.steps;
      for (double& us : layer.decode_stages) us /= analysis.decode.steps;
    }
  }
  for (std::size_t l = 0; l < analysis.layers.size(); ++l) {
    analysis.layers[l].prefill_limits = prefill_of_layer[l].shares();
    analysis.layers[l].decode_limits = decode_of_layer[l].shares();
  }
  analysis.limits = limits.shares();
  analysis.prefill.limits = prefill_limits.shares();
  analysis.decode.limits = decode_limits.shares();
  add_uses(graph, run, analysis);
  analysis.bottleneck = analysis.limits.empty() ? "none" : analysis.limits.front().name;
  return analysis;
}

}  // namespace tessera::cli
