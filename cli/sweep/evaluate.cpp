#include "cli/sweep/evaluate.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <set>
#include <stdexcept>
#include <system_error>

#include "cli/analysis.hpp"
#include "cli/command.hpp"
#include "cli/config_files.hpp"
#include "cli/kernel_arguments.hpp"
#include "cli/run_report.hpp"
#include "configs/reader/hardware.hpp"
#include "sim/gpu/kernel_run.hpp"
#include "sim/system/child_process.hpp"

namespace tessera::cli {

namespace {

/// What `work` returns in a process of its own, which no simulation has run in. Its exceptions become
/// std::runtime_error, and so does its death.
std::string in_child(const std::function<std::string()>& work) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw std::system_error{errno, std::generic_category(), "pipe"};
  const pid_t child = sim::start_child([&] {
    std::string text;
    try {
      text = "+" + work();
    } catch (const std::exception& e) {
      text = std::string{"-"} + e.what();
    }
    sim::write_all(ends[1], text);
  });
  close(ends[1]);
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t n = ::read(ends[0], buffer, sizeof buffer);
    if (n > 0) text.append(buffer, static_cast<std::size_t>(n));
    if (n == 0 || (n < 0 && errno != EINTR)) break;
  }
  close(ends[0]);
  const int status = sim::status_of(child);
  if (WIFSIGNALED(status))
    throw std::runtime_error{fmt::format("the simulation died: {}", strsignal(WTERMSIG(status)))};
  if (text.empty()) throw std::runtime_error{"the simulation said nothing"};
  if (text.front() == '-') throw std::runtime_error{text.substr(1)};
  return text.substr(1);
}

Json stages_of(const Phase& phase) {
  Json json = Json::object();
  if (!phase.present()) return json;
  for (std::size_t s = 0; s < phase.stages.size(); ++s) {
    if (phase.stages[s].critical_us > 0)
      json[std::string{models::name_of(static_cast<models::Stage>(s))}] = phase.stages[s].critical_us;
  }
  if (phase.launch_us > 0) json["(launch)"] = phase.launch_us;
  return json;
}

std::string value_of(const Point& point, const Sweep& sweep, const std::string& key) {
  for (const auto* list : {&point.axes, &sweep.set}) {
    for (const auto& [name, value] : *list) {
      if (name == key) return value;
    }
  }
  return {};
}

}  // namespace

std::vector<std::string> Evaluator::overrides(const Point& point) const {
  std::vector<std::string> all;
  for (const auto* list : {&sweep_.set, &point.axes}) {
    for (const auto& [key, value] : *list) all.push_back(key + "=" + value);
  }
  return all;
}

void Evaluator::read(const Point& point) {
  if (sweep_.kernel.empty()) {
    (void)read_experiment(sweep_.experiment, overrides(point), configs_);
    return;
  }
  Row row;
  measure_kernel(point, false, row);
}

const models::TaskGraph& Evaluator::graph_of(const Experiment& e) {
  if (e.graph_key != graph_key_) {
    graph_key_.clear();  // should building fail
    graph_ = build_graph(e);
    graph_key_ = e.graph_key;
  }
  return graph_;
}

void Evaluator::measure_run(const Point& point, bool cycle, Row& row) {
  Experiment e = read_experiment(sweep_.experiment, overrides(point), configs_);
  e.workload.expert_load.seed = e.workload.selection.seed = sweep_.seed;
  row.config_hash = e.config_hash;
  const models::TaskGraph& graph = graph_of(e);
  sim::RunOptions options{.cost = !cycle,
                          .link_activity = false,
                          .memory = {&costs_, &plans_, e.graph_key},
                          .jobs = 1,
                          .seed = sweep_.seed,
                          .cuda_graph = e.cuda_graph};
  const sim::RunResult run = sim::run_machine(graph, e.machine, options);
  const Analysis a = analyse(graph, run, e.machine.fabric);
  const Cost cost = cost_of(e, graph, run);
  const double tokens = tokens_of(e);
  const Throughput per = throughput_of(tokens, run, cost);

  row.bottleneck = a.bottleneck;
  row.stages = {{"prefill", stages_of(a.prefill)}, {"decode", stages_of(a.decode)}};
  row.metric("latency_us") = run.latency.us();
  row.metric("ttft_us") = a.prefill.latency_us;
  if (a.decode.present()) row.metric("decode_us_per_token") = a.decode.latency_us / a.decode.steps;
  row.metric("tokens") = tokens;
  row.metric("tokens_per_s") = per.tokens_per_s;
  row.metric("energy_j") = run.energy_j;
  row.metric("tokens_per_j") = per.tokens_per_j;
  if (cost.usd > 0) {
    row.metric("cost_usd") = cost.usd;
    row.metric("tokens_per_usd") = per.tokens_per_usd;
    row.metric("usd_per_hour") = cost.usd / run.latency.seconds() * 3600;
  }
  double most_bytes = 0, share = 0, traffic = 0, busiest = 0, comp = 0;
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const bool is_comp = graph.nodes[n].kind == models::NodeKind::comp;
    const GpuSpec& gpu = is_comp ? e.machine.comp_gpu : e.machine.attn_gpu;
    const auto bytes = static_cast<double>(run.nodes[n].memory_bytes);
    most_bytes = std::max(most_bytes, bytes);
    share = std::max(share, bytes / static_cast<double>(gpu.hbm.capacity_bytes));
    traffic += static_cast<double>(run.nodes[n].bytes_out);
    comp += is_comp ? 1 : 0;
  }
  for (const sim::LinkUse& link : run.links) busiest = std::max(busiest, link.utilization);
  const auto nodes = static_cast<double>(graph.nodes.size());
  row.metric("memory_bytes") = most_bytes;
  row.metric("memory_share") = share;
  row.metric("memory_fits") = share <= 1 ? 1 : 0;
  row.metric("traffic_bytes") = traffic;
  row.metric("link_utilization") = busiest;
  row.metric("exposed_us") = a.prefill.exposed_communication_us + a.decode.exposed_communication_us;
  row.metric("nodes") = nodes;
  row.metric("comp_nodes") = comp;
  row.metric("attn_nodes") = nodes - comp;
  row.metric("ci95_percent") = run.ci95_percent;
}

void Evaluator::measure_kernel(const Point& point, bool cycle, Row& row) {
  const std::string name = value_of(point, sweep_, "hardware");
  if (name.empty()) throw UsageError{"kernel: hardware is missing: a name of configs/hardware, or a file"};
  std::map<std::string, std::string> arguments;  // a point's before the sweep's
  std::string key = name;
  std::vector<std::string> changes;
  for (const auto* list : {&sweep_.set, &point.axes}) {
    for (const auto& [k, value] : *list) {
      if (k.starts_with("hardware."))
        changes.push_back(k.substr(std::strlen("hardware.")) + "=" + value);
      else if (k != "hardware")
        arguments[k] = value;
    }
  }
  std::vector<std::string> texts;
  for (const auto& [k, value] : arguments) texts.push_back(k + "=" + value);
  const KernelRequest request = parse_kernel(sweep_.kernel, texts);
  if (request.hbm_stream) throw UsageError{"kernel hbm_stream: cannot be swept"};
  for (const std::string& change : changes) key += "\n" + change;
  auto known = configs_.hardware.find(key);
  if (known == configs_.hardware.end()) {
    auto document = config::Document::read(resolve_config("hardware", name, "hardware"));
    for (const std::string& change : changes) apply_override(document, change);
    known = configs_.hardware
                .emplace(key, std::make_shared<const Hardware>(
                                  Hardware{.key = key, .gpu = config::read_gpu(document)}))
                .first;
  }
  const GpuSpec& gpu = known->second->gpu;
  row.config_hash = fmt::format("{}|{}|{}", sweep_.kernel, fmt::join(texts, "|"), key);
  std::replace(row.config_hash.begin(), row.config_hash.end(), '\n', '|');
  const sim::KernelResult r =
      cycle ? sim::simulate_kernel(gpu, request.op, request.options)
            : sim::cost_one(costs_.of(key, gpu).model, {&gpu, request.op, request.options, {}});
  row.bottleneck = r.bottleneck;
  row.metric("latency_us") = r.latency.us();
  row.metric("execution_us") = r.execution.us();
  row.metric("energy_j") = r.energy_j;
  row.metric("tflops") = r.flops / r.latency.us() * 1e-6;
  row.metric("hbm_bytes") = static_cast<double>(r.hbm_read_bytes + r.hbm_write_bytes);
  row.metric("l2_bytes") = static_cast<double>(r.l2_bytes);
  row.metric("clock_mhz") = r.clock_mhz;
  row.metric("ci95_percent") = r.ci95_percent;
  if (gpu.price_usd_per_hour > 0) {
    row.metric("usd_per_hour") = gpu.price_usd_per_hour;
    row.metric("cost_usd") = gpu.price_usd_per_hour * r.latency.seconds() / 3600;
  }
}

void Evaluator::measure(const Point& point, bool cycle, Row& row) {
  if (sweep_.kernel.empty())
    measure_run(point, cycle, row);
  else
    measure_kernel(point, cycle, row);
}

void Evaluator::apply_constraints(const Point& point, Row& row) const {
  for (const Expression& constraint : sweep_.constraints) {
    const bool holds = constraint.holds([&](const std::string& name) -> Term {
      if (name == "bottleneck") return row.bottleneck;
      const auto* at = std::find(kMetrics.begin(), kMetrics.end(), name);
      if (at != kMetrics.end()) {
        const auto& value = row.metrics[static_cast<std::size_t>(at - kMetrics.begin())];
        if (!value) throw ExpressionError{fmt::format("'{}': the point has no {}", constraint.text(), name)};
        return *value;
      }
      const std::string text = value_of(point, sweep_, name);
      return text.empty() ? Term{name} : term_of(text);
    });
    if (holds) continue;
    row.status = "infeasible";
    row.error = constraint.text();
    return;
  }
}

Row Evaluator::evaluate(const Point& point, bool cycle) {
  Row row{.id = point.id, .fidelity = cycle ? "cycle" : "cost", .axes = Json::object(), .status = "ok"};
  for (const auto& [key, value] : point.axes) row.axes[key] = value;
  const auto start = std::chrono::steady_clock::now();
  try {
    if (cycle) {
      row = row_from(in_child([&] {
        measure(point, true, row);
        return to_text(row);
      }));
    } else {
      measure(point, false, row);
    }
    apply_constraints(point, row);
  } catch (const std::exception& e) {
    row.status = "failed";
    row.error = e.what();
  }
  row.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return row;
}

namespace {

/// Whether a complaint is about a key: it names the key's path, or the part of it below the file it goes
/// into. "WHERE: PATH: what", or "--set PATH=VALUE: what".
bool is_about(const std::string& complaint, const std::string& key) {
  if (complaint.find("unknown key '" + key + "'") != std::string::npos) return true;  // a kernel's argument
  for (std::string part = key;;) {
    for (const std::string& path : {part, part + ".value"}) {
      if (complaint.find(": " + path + ": ") != std::string::npos ||
          complaint.find(path + "=") != std::string::npos ||
          complaint.find(": " + path + "[") != std::string::npos)
        return true;
    }
    // A part that stands above the key: "hardwar" of "hardwar.comp".
    for (std::size_t dot = part.find('.'); dot != std::string::npos; dot = part.find('.', dot + 1)) {
      if (complaint.find(": " + part.substr(0, dot) + ": unknown key") != std::string::npos) return true;
    }
    const std::size_t dot = part.find('.');
    if (dot == std::string::npos) return false;
    part.erase(0, dot + 1);
  }
}

/// What is wrong, without where: the sweep's own file and line stand there instead.
std::string without_place(const std::string& complaint) {
  for (const char* mark : {"unknown key", "expected", "must ", "no ", "'"}) {
    const std::size_t at = complaint.find(std::string{": "} + mark);
    if (at != std::string::npos) return complaint.substr(at + 2);
  }
  return complaint;
}

/// Throws if no point can so much as be read: what is missing is missing in all of them. Of very many, some
/// spread over all are looked at.
void require_some_point(Evaluator& evaluator, const Sweep& sweep, const std::vector<Point>& points) {
  constexpr std::size_t kMost = 10'000;
  const std::size_t stride = (points.size() + kMost - 1) / kMost;
  std::string first;
  for (std::size_t i = 0; i < points.size(); i += stride) {
    try {
      return evaluator.read(points[i]);
    } catch (const std::exception& e) {
      if (first.empty()) first = e.what();
    }
  }
  throw config::InputError{fmt::format("{}: no point can be run: {}", sweep.file.string(), first)};
}

}  // namespace

void require_axes(const Sweep& sweep, const std::vector<Point>& points) {
  constexpr std::size_t kMostValues = 64, kTries = 16;
  Evaluator evaluator{sweep};
  bool any = false;
  for (std::size_t d = 0; d < sweep.dimensions.size(); ++d) {
    const Dimension& dimension = sweep.dimensions[d];
    // Points by their value here, spread over all.
    std::map<std::string, std::vector<const Point*>> by_value;
    std::vector<std::string> order;
    for (const Point& p : points) {
      std::string text;
      for (const std::string& key : dimension.keys)
        for (const auto& [k, value] : p.axes)
          if (k == key) text += value + "\n";
      const auto [at, added] = by_value.try_emplace(text);
      if (added) order.push_back(text);
      at->second.push_back(&p);
    }
    const std::size_t stride = std::max<std::size_t>(1, order.size() / kMostValues);
    for (std::size_t i = 0; i < order.size(); i += stride) {
      const auto& with = by_value.at(order[i]);
      std::optional<config::InputError> complaint;
      bool good = false;
      for (std::size_t t = 0; t < std::min(kTries, with.size()) && !good; ++t) {
        const Point& p = *with[t * with.size() / std::min(kTries, with.size())];
        try {
          evaluator.read(p);
          good = any = true;
        } catch (const std::exception& e) {
          good = true;  // unless it is about this axis, it is for the point's own row
          for (std::size_t k = 0; k < dimension.keys.size(); ++k) {
            const std::string what = e.what();
            if (!is_about(what, dimension.keys[k])) continue;
            complaint = dimension.at[k].error(without_place(what));
            good = false;
          }
        }
      }
      if (!good && complaint) throw *complaint;
    }
  }
  if (!any) require_some_point(evaluator, sweep, points);
}

}  // namespace tessera::cli
