#include "sim/system/machine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <thread>

#include "models/cost/schedule.hpp"
#include "sim/core/error.hpp"
#include "sim/fabric/fabric.hpp"
#include "sim/node/node.hpp"
#include "sim/system/kernel_profile.hpp"

namespace tessera::sim {

namespace {

/// Adds each kernel's share of its node's peaks, and its energy, to the node it ran on.
void account_kernels(const models::TaskGraph& graph, const MachineSpec& spec, RunResult& run) {
  const double run_us = run.latency.us();
  struct Shares {
    double tensor, hbm, l2, mufu;
  };
  std::vector<Shares> shares;  // by kernel
  for (const KernelUse& k : run.kernels) {
    const auto& of = k.result.utilization;
    shares.push_back({of.at("tensor"), of.at("hbm"), of.at("l2"), of.at("mufu")});
  }
  for (std::size_t id = 0; id < graph.tasks.size(); ++id) {
    const TaskTiming& timing = run.tasks[id];
    if (timing.kernel == UINT32_MAX) continue;
    const models::Node& node = graph.nodes[graph.tasks[id].node];
    const GpuSpec& gpu = node.kind == models::NodeKind::comp ? spec.comp_gpu : spec.attn_gpu;
    const KernelResult& k = run.kernels[timing.kernel].result;
    const double taken_us = (timing.end - timing.start).us();
    // An interpolated kernel scales with its duration.
    const double scale = taken_us / k.latency.us();
    const double share = k.execution.us() * scale / run_us;
    NodeUse& use = run.nodes[graph.tasks[id].node];
    use.busy += taken_us / run_us;
    const Shares& of = shares[timing.kernel];
    use.tensor += share * of.tensor;
    use.hbm += share * of.hbm;
    use.l2 += share * of.l2;
    use.mufu += share * of.mufu;
    use.energy_j += scale * (k.energy_j - gpu.power.idle_w * k.latency.seconds());
  }
}

std::vector<Activity> activity_of(const BusyHistory& history, Time run_end) {
  std::vector<Activity> activity;
  for (std::size_t i = 0; i < history.busy().size(); ++i) {
    const Time busy = history.busy()[i];
    if (busy == Time{}) continue;
    const Time start = history.width() * static_cast<std::int64_t>(i);
    const Time end = min(start + history.width(), run_end);
    activity.push_back({start, end, busy.us() / (end - start).us()});
  }
  return activity;
}

/// Of the fabric's simulation, which the worker processes have left the cores to. The switch takes about as
/// long as all NICs together: more than two have nothing to do.
unsigned fabric_threads(int jobs) {
  const unsigned most = jobs > 0 ? static_cast<unsigned>(jobs) : std::thread::hardware_concurrency();
  return std::clamp(most, 1U, 2U);
}

/// What task timings and traffic amount to.
void account(const models::TaskGraph& graph, const MachineSpec& spec, RunResult& run) {
  for (const TaskTiming& t : run.tasks) run.latency = max(run.latency, t.end);
  account_kernels(graph, spec, run);
  for (const models::Buffer& b : graph.buffers) run.nodes[b.node].memory_bytes += b.bytes;
  const double port_bytes = spec.fabric.node_gb_per_s * 1e3 * run.latency.us();  // in the run's time
  for (std::uint32_t n = 0; n < graph.nodes.size(); ++n) {
    NodeUse& use = run.nodes[n];
    const GpuSpec& gpu = graph.nodes[n].kind == models::NodeKind::comp ? spec.comp_gpu : spec.attn_gpu;
    use.link_out = static_cast<double>(use.bytes_out) / port_bytes;
    use.link_in = static_cast<double>(use.bytes_in) / port_bytes;
    use.energy_j += gpu.power.idle_w * run.latency.seconds() +
                    static_cast<double>(use.bytes_out) * gpu.power.link_pj_per_byte * 1e-12;
    run.energy_j += use.energy_j;
  }
}

/// The machine packet by packet, on at most `threads` threads. This process is its simulation from here on.
void simulate(const models::TaskGraph& graph, const MachineSpec& spec, const KernelProfile& profile,
              unsigned threads, RunResult& run) {
  const Threads pool{threads};
  const Dependents dependents = dependents_of(graph);
  std::vector<std::string> names;
  for (const models::Node& n : graph.nodes) names.push_back(n.name);
  Fabric fabric{spec.fabric, names, graph.tasks.size()};
  std::vector<std::unique_ptr<Node>> nodes;
  std::vector<Module*> modules = fabric.modules();
  for (std::uint32_t n = 0; n < graph.nodes.size(); ++n) {
    nodes.push_back(std::make_unique<Node>(fmt::format("node{}", n).c_str(), n, graph, dependents,
                                           profile.duration_of_task, run.tasks));
    nodes.back()->to_nic.connect(fabric.nic(n), fabric.endpoint_latency());
    fabric.nic(n).to_node.connect(*nodes.back(), fabric.endpoint_latency());
    modules.push_back(nodes.back().get());
  }
  run.events += run_to_completion(modules);
  fabric.check_conservation();
  for (const auto& n : nodes) {
    if (n->completed() != n->tasks()) {
      throw ConservationError{
          fmt::format("{}: {} of {} tasks completed", n->name(), n->completed(), n->tasks())};
    }
  }
  for (std::uint32_t n = 0; n < graph.nodes.size(); ++n) {
    run.nodes[n].bytes_out = fabric.nic(n).bytes_sent();
    run.nodes[n].bytes_in = fabric.nic(n).bytes_received();
  }
  account(graph, spec, run);
  for (const LinkState* link : fabric.links()) {
    run.links.push_back({link->name, link->payload_bytes, link->wire.busy().us() / run.latency.us(),
                         activity_of(link->history, run.latency)});
  }
}

/// The machine in closed form: nothing is elaborated, so a process may run any number.
void schedule(const models::TaskGraph& graph, const MachineSpec& spec, const KernelProfile& profile,
              bool activity, RunResult& run) {
  cost::Schedule s = cost::schedule_tasks(graph, spec.fabric, profile.duration_of_task, activity);
  run.events += s.events;
  for (std::size_t id = 0; id < run.tasks.size(); ++id) {
    run.tasks[id].start = s.start[id];
    run.tasks[id].end = s.end[id];
  }
  for (std::uint32_t n = 0; n < graph.nodes.size(); ++n) {
    run.nodes[n].bytes_out = s.bytes_out[n];
    run.nodes[n].bytes_in = s.bytes_in[n];
  }
  account(graph, spec, run);
  for (cost::LinkLoad& link : s.links) {
    std::vector<Activity> spans;
    for (const cost::LinkSpan& span : link.spans) spans.push_back({span.start, span.end, span.share});
    run.links.push_back(
        {std::move(link.name), link.bytes, link.busy.us() / run.latency.us(), std::move(spans)});
  }
}

}  // namespace

RunResult run_machine(const models::TaskGraph& graph, const MachineSpec& spec, const RunOptions& options) {
  const Simulate simulate_job = [](const KernelJob& job) {
    return simulate_kernel(*job.gpu, job.op, job.options);
  };
  KernelProfile profile = profile_kernels(graph, spec, options, simulate_job);

  RunResult run;
  run.tasks.resize(graph.tasks.size());
  for (std::size_t id = 0; id < graph.tasks.size(); ++id) run.tasks[id].kernel = profile.kernel_of_task[id];
  run.kernels = std::move(profile.kernels);
  run.recording = std::move(profile.recording);
  run.recorded_kernel = profile.recorded_kernel;
  run.ci95_percent = profile.ci95_percent;
  for (const KernelUse& k : run.kernels) run.events += k.result.events;
  run.nodes.resize(graph.nodes.size());
  if (options.cost)
    schedule(graph, spec, profile, options.link_activity, run);
  else
    simulate(graph, spec, profile, fabric_threads(options.jobs), run);
  return run;
}

}  // namespace tessera::sim
