#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>

#include "cli/run_report.hpp"
#include "cli/table.hpp"

namespace tessera::cli {

namespace {

// Above this many nodes or links, equal ones are grouped and only the extremes are named.
constexpr std::size_t kMostRows = 16;
constexpr std::size_t kWorst = 5;

std::string gpu_text(const GpuSpec& gpu) {
  return fmt::format("{} ({} SMs, {} HBM; {})", gpu.name, gpu.sms(),
                     bytes_text(static_cast<double>(gpu.hbm.capacity_bytes)), gpu.calibration);
}

std::string exposure_text(const models::Exposure& e) {
  return fmt::format("up to {} consecutive tokens{}", count_text(static_cast<double>(e.largest_cluster)),
                     e.smallest_gap > 0 ? fmt::format(", gaps from {}", e.smallest_gap) : "");
}

/// Its heads where every layer has the same dense ones, else the kinds of its layers.
std::string model_text(const models::Architecture& m) {
  const auto* dense = std::get_if<models::DenseShape>(&m.layers.front().attention);
  const std::string kinds = models::layers_text(m);
  const bool uniform = dense != nullptr && kinds == fmt::format("{} dense + MLP", m.layer_count());
  const std::string layers =
      uniform ? fmt::format("{} layers, hidden {}, {} heads ({} kv) of {}", m.layer_count(), m.hidden,
                            dense->heads, dense->kv_heads, dense->head_dim)
              : fmt::format("{} layers ({}), hidden {}", m.layer_count(), kinds, m.hidden);
  return fmt::format("{}: {}, {} parameters, {}", m.name, layers,
                     count_text(static_cast<double>(m.parameters())), models::name_of(m.dtype));
}

/// How what the model has is spread over the nodes of a cascade: "experts spread, KDA by heads".
std::string placement_text(const Experiment& e) {
  bool experts = false, latents = false, recurrence = false;
  for (const models::Layer& l : e.model.layers) {
    experts |= std::holds_alternative<models::MoeShape>(l.feed_forward);
    latents |= std::holds_alternative<models::MlaShape>(l.attention);
    recurrence |= std::holds_alternative<models::KdaShape>(l.attention);
  }
  const models::Workload& w = e.workload;
  std::vector<std::string> parts;
  if (experts) {
    parts.push_back(w.experts == models::ExpertPlacement::spread ? "experts spread over CompNodes"
                                                                 : "all experts on every CompNode");
  }
  if (recurrence)
    parts.push_back(w.recurrence == models::RecurrencePlacement::heads ? "KDA by heads" : "KDA by segments");
  if (latents && w.decode_steps > 0) {
    parts.push_back(w.latents == models::LatentPolicy::route ? "decoded queries routed to latents"
                                                             : "latents fetched to decoded queries");
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string header_text(const RunRecord& record) {
  const Experiment& e = record.experiment;
  std::string text = e.name + (e.description.empty() ? "" : ": " + e.description) + "\n";
  const auto line = [&](const char* label, const std::string& value) {
    text += fmt::format("  {:<10}{}\n", label, value);
  };
  line("model", model_text(e.model));
  const auto fabric_line = [&] {
    line("fabric", fmt::format("{}: {} GB/s per node and direction", e.machine.fabric.name,
                               e.machine.fabric.node_gb_per_s));
  };
  if (e.tensor_gpus > 0) {
    line("machine", fmt::format("{} GPUs, tensor-parallel: {}", e.tensor_gpus, gpu_text(e.machine.comp_gpu)));
    fabric_line();
  } else if (!e.cascade) {
    line("machine", "1 node: " + gpu_text(e.machine.comp_gpu));
  } else {
    const auto attn = static_cast<std::size_t>(
        std::count_if(record.graph.nodes.begin(), record.graph.nodes.end(),
                      [](const auto& n) { return n.kind == models::NodeKind::attn; }));
    line("machine",
         fmt::format("{} CompNodes: {}", record.graph.nodes.size() - attn, gpu_text(e.machine.comp_gpu)));
    line("", fmt::format("{} AttnNodes: {}", attn, gpu_text(e.machine.attn_gpu)));
    fabric_line();
  }
  if (e.cascade) {
    line("sharding", fmt::format("R: {}, S: {}", e.r_scheme, e.s_scheme));
    line("", fmt::format("a CompNode sees {}; an AttnNode {}", exposure_text(e.exposures.comp),
                         exposure_text(e.exposures.attn)));
    if (const std::string placed = placement_text(e); !placed.empty()) line("", placed);
  }
  const models::Workload& w = e.workload;
  const std::string cached =
      w.cached_tokens == 0  ? ""
      : w.new_tokens() == 0 ? " (all cached)"
                            : fmt::format(" ({} cached)", count_text(static_cast<double>(w.cached_tokens)));
  line("workload", fmt::format("batch {}, {} prompt tokens{}, {} decode steps", w.batch,
                               count_text(static_cast<double>(w.prefill_tokens)), cached, w.decode_steps));
  if (w.host_step_us > 0 || w.host_sequence_us > 0)
    line("host", fmt::format("{} a step, {} more for each sequence in it", duration_text(w.host_step_us),
                             duration_text(w.host_sequence_us)));
  if (!e.cuda_graph) line("launch", "every kernel from the host");
  for (const std::string& note : e.notes) line("note", note);
  return text;
}

/// "HBM bandwidth 57.9 %, launch 15.3 %": the largest.
std::string limits_text(const std::vector<LimitShare>& limits) {
  std::string text;
  for (std::size_t i = 0; i < std::min<std::size_t>(limits.size(), 4); ++i)
    text += fmt::format("{}{} {}", i == 0 ? "" : ", ", limits[i].name, percent_text(limits[i].share));
  return text;
}

std::string use_text(const char* nodes, const PhaseUse& use) {
  return fmt::format("  {:<22}busy {}, tensor cores {}, MUFU {}, HBM {}, L2 {}\n", nodes,
                     percent_text(use.busy), percent_text(use.tensor), percent_text(use.mufu),
                     percent_text(use.hbm), percent_text(use.l2));
}

/// One phase's critical path by stage. Times are per step.
std::string phase_text(const Phase& phase, double layers, const char* unit, bool cascade) {
  const double steps = phase.steps;
  Table table{{"stage", "per layer", unit, "share", "elapsed"}};
  const auto row = [&](std::string name, double us, bool in_layers, std::string elapsed) {
    table.add({std::move(name), in_layers && layers > 0 ? duration_text(us / steps / layers) : "",
               duration_text(us / steps), percent_text(phase.latency_us > 0 ? us / phase.latency_us : 0),
               std::move(elapsed)});
  };
  for (std::size_t s = 0; s < phase.stages.size(); ++s) {
    const StageTimes& t = phase.stages[s];
    if (t.tasks == 0) continue;
    const auto stage = static_cast<models::Stage>(s);
    row(std::string{models::name_of(stage)}, t.critical_us,
        stage != models::Stage::embed && stage != models::Stage::head, duration_text(t.elapsed_us / steps));
  }
  if (phase.host_us > 0) row("(host)", phase.host_us, false, "");
  row("(launch)", phase.launch_us, true, "");
  row("total", phase.latency_us, false, "");
  std::string text = table.text();
  if (phase.exposed_communication_us > 0 || phase.network_only_us > 0) {
    text += fmt::format("  exposed communication {} ({}); network busy while every GPU idles {}\n",
                        duration_text(phase.exposed_communication_us / steps),
                        percent_text(phase.exposed_communication_us / phase.latency_us),
                        duration_text(phase.network_only_us / steps));
  }
  text += fmt::format("  {:<22}{}\n", "limited by", limits_text(phase.limits));
  text += use_text(cascade ? "mean of CompNodes" : "GPU", phase.comp);
  if (cascade) text += use_text("mean of AttnNodes", phase.attn);
  return text;
}

/// "experts 41 %, attention 22 %": the stages that take most of a layer's time.
std::string stages_text(const std::array<double, models::kStages>& us, double total) {
  std::vector<std::size_t> order(us.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return us[a] > us[b]; });
  std::string text;
  for (std::size_t i = 0; i < 2 && us[order[i]] > 0; ++i) {
    text += fmt::format("{}{} {:.0f} %", i == 0 ? "" : ", ",
                        models::name_of(static_cast<models::Stage>(order[i])), 100 * us[order[i]] / total);
  }
  return text;
}

/// What a layer of each kind takes in each phase, where in it, and what limits it.
std::string layers_text(const RunRecord& record) {
  struct Kind {
    std::string name;
    int layers = 0;
    struct Phase {
      double us = 0;
      std::array<double, models::kStages> stages{};
      std::map<std::string, double> limits;
    } prefill, decode;
  };
  std::vector<Kind> kinds;
  const auto add = [](Kind::Phase& to, double us, const std::array<double, models::kStages>& stages,
                      const std::vector<LimitShare>& limits) {
    to.us += us;
    for (std::size_t s = 0; s < stages.size(); ++s) to.stages[s] += stages[s];
    for (const LimitShare& l : limits) to.limits[l.name] += l.share * us;
  };
  for (const LayerTimes& l : record.analysis.layers) {
    if (l.layer < 0) continue;
    const models::Layer& layer = record.experiment.model.layers[static_cast<std::size_t>(l.layer)];
    const std::string name =
        fmt::format("{} + {}", models::name_of(layer.attention), models::name_of(layer.feed_forward));
    auto at = std::find_if(kinds.begin(), kinds.end(), [&](const Kind& k) { return k.name == name; });
    if (at == kinds.end()) at = kinds.insert(kinds.end(), {.name = name});
    ++at->layers;
    add(at->prefill, l.prefill_us, l.prefill_stages, l.prefill_limits);
    add(at->decode, l.decode_us, l.decode_stages, l.decode_limits);
  }
  Table table{{"layers", "phase", "each", "most of it in", "limited by"}};
  const auto row = [&](const Kind& kind, const char* phase, const Kind::Phase& p) {
    if (p.us <= 0) return;
    const auto worst = std::max_element(p.limits.begin(), p.limits.end(),
                                        [](const auto& a, const auto& b) { return a.second < b.second; });
    table.add({fmt::format("{} x {}", kind.layers, kind.name), phase, duration_text(p.us / kind.layers),
               stages_text(p.stages, p.us),
               fmt::format("{} {:.0f} %", worst->first, 100 * worst->second / p.us)});
  };
  for (const Kind& kind : kinds) {
    row(kind, record.experiment.model.causal ? "prefill" : "forward", kind.prefill);
    row(kind, "decode", kind.decode);
  }
  return table.text();
}

std::vector<std::string> node_row(std::string name, const sim::NodeUse& use) {
  return {std::move(name),
          percent_text(use.busy),
          percent_text(use.tensor),
          percent_text(use.mufu),
          percent_text(use.hbm),
          percent_text(use.l2),
          percent_text(use.link_out),
          percent_text(use.link_in),
          bytes_text(static_cast<double>(use.bytes_out)),
          bytes_text(static_cast<double>(use.bytes_in)),
          bytes_text(static_cast<double>(use.memory_bytes)),
          energy_text(use.energy_j)};
}

/// Each field of `pick` over the nodes.
sim::NodeUse fold(const std::vector<sim::NodeUse>& uses,
                  const std::function<double(const std::vector<double>&)>& pick) {
  const auto share = [&](double sim::NodeUse::*field) {
    std::vector<double> values;
    for (const sim::NodeUse& use : uses) values.push_back(use.*field);
    return pick(values);
  };
  const auto bytes = [&](std::int64_t sim::NodeUse::*field) {
    std::vector<double> values;
    for (const sim::NodeUse& use : uses) values.push_back(static_cast<double>(use.*field));
    return static_cast<std::int64_t>(pick(values));
  };
  using Use = sim::NodeUse;
  return {.busy = share(&Use::busy),
          .tensor = share(&Use::tensor),
          .hbm = share(&Use::hbm),
          .l2 = share(&Use::l2),
          .mufu = share(&Use::mufu),
          .link_out = share(&Use::link_out),
          .link_in = share(&Use::link_in),
          .bytes_out = bytes(&Use::bytes_out),
          .bytes_in = bytes(&Use::bytes_in),
          .energy_j = share(&Use::energy_j),
          .memory_bytes = bytes(&Use::memory_bytes)};
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}
double least(const std::vector<double>& values) { return *std::min_element(values.begin(), values.end()); }
double most(const std::vector<double>& values) { return *std::max_element(values.begin(), values.end()); }

std::string nodes_text(const RunRecord& record) {
  const auto& nodes = record.graph.nodes;
  Table table{{"node", "busy", "tensor", "MUFU", "HBM", "L2", "link out", "link in", "sent", "received",
               "memory", "energy"}};
  if (nodes.size() <= kMostRows) {
    for (std::size_t n = 0; n < nodes.size(); ++n) table.add(node_row(nodes[n].name, record.run.nodes[n]));
    table.group_alike();
    return table.text();
  }
  for (const auto& [kind, label] :
       {std::pair{models::NodeKind::comp, "comp"}, {models::NodeKind::attn, "attn"}}) {
    std::vector<sim::NodeUse> uses;
    std::size_t busiest = 0;
    for (std::size_t n = 0; n < nodes.size(); ++n) {
      if (nodes[n].kind != kind) continue;
      if (uses.empty() || record.run.nodes[n].busy > record.run.nodes[busiest].busy) busiest = n;
      uses.push_back(record.run.nodes[n]);
    }
    if (uses.empty()) continue;
    table.add(node_row(fmt::format("{} x {}: least", uses.size(), label), fold(uses, least)));
    table.add(node_row("  mean", fold(uses, mean)));
    table.add(node_row("  most", fold(uses, most)));
    table.add(node_row(fmt::format("  busiest: {}", nodes[busiest].name), record.run.nodes[busiest]));
  }
  return table.text();
}

/// "comp3 -> switch0" -> "comp -> switch": links of a kind.
std::string kind_of_link(std::string name) {
  name.erase(
      std::remove_if(name.begin(), name.end(), [](char c) { return (c >= '0' && c <= '9') || c == ','; }),
      name.end());
  return name;
}

std::string links_text(const RunRecord& record) {
  const std::vector<sim::LinkUse>& links = record.run.links;
  if (record.graph.nodes.size() == 1) return "";  // nobody to talk to
  Table table{{"link", "payload", "of peak"}};
  const auto row = [&](const sim::LinkUse& link, const std::string& indent) {
    table.add(
        {indent + link.name, bytes_text(static_cast<double>(link.bytes)), percent_text(link.utilization)});
  };
  if (record.graph.nodes.size() <= kMostRows) {
    for (const sim::LinkUse& link : links) row(link, "");
    table.group_alike();
    return table.text();
  }
  std::map<std::string, std::vector<const sim::LinkUse*>> kinds;
  for (const sim::LinkUse& link : links) kinds[kind_of_link(link.name)].push_back(&link);
  for (auto& [kind, members] : kinds) {
    std::vector<double> bytes, shares;
    for (const sim::LinkUse* link : members) {
      bytes.push_back(static_cast<double>(link->bytes));
      shares.push_back(link->utilization);
    }
    table.add({fmt::format("{} x {}: least", members.size(), kind), bytes_text(least(bytes)),
               percent_text(least(shares))});
    table.add({"  mean", bytes_text(mean(bytes)), percent_text(mean(shares))});
    table.add({"  most", bytes_text(most(bytes)), percent_text(most(shares))});
    std::stable_sort(members.begin(), members.end(), [](const sim::LinkUse* a, const sim::LinkUse* b) {
      return a->utilization > b->utilization;
    });
    if (most(bytes) == least(bytes)) continue;  // all alike: no worst to name
    for (std::size_t i = 0; i < std::min(kWorst, members.size()); ++i) row(*members[i], "  worst: ");
  }
  return table.text();
}

std::string memory_warnings(const RunRecord& record) {
  std::string text;
  for (std::size_t n = 0; n < record.graph.nodes.size(); ++n) {
    const models::Node& node = record.graph.nodes[n];
    const sim::MachineSpec& machine = record.experiment.machine;
    const GpuSpec& gpu = node.kind == models::NodeKind::comp ? machine.comp_gpu : machine.attn_gpu;
    const std::int64_t needed = record.run.nodes[n].memory_bytes;
    if (needed <= gpu.hbm.capacity_bytes) continue;
    text += fmt::format("  WARNING: {} needs {}, but {} has {}: this machine could not run it\n", node.name,
                        bytes_text(static_cast<double>(needed)), gpu.name,
                        bytes_text(static_cast<double>(gpu.hbm.capacity_bytes)));
  }
  return text;
}

}  // namespace

std::string run_text(const RunRecord& record) {
  const Analysis& a = record.analysis;
  const sim::RunResult& run = record.run;
  const double layers = static_cast<double>(a.layers.size()) - 1;  // the first entry is outside the layers
  std::string text = header_text(record) + "\n";
  const auto line = [&](const char* label, const std::string& value) {
    text += fmt::format("  {:<22}{}\n", label, value);
  };

  line("latency",
       duration_text(run.latency.us()) +
           (run.ci95_percent >= 0.005 ? fmt::format(" +- {:.2g} % (extrapolation, 95 %)", run.ci95_percent)
                                      : ""));
  line("error bar", text_of(record.error));
  const bool causal = record.experiment.model.causal;  // an encoder has no first token to wait for
  if (a.prefill.present())
    line(causal ? "prefill (TTFT)" : "forward pass", duration_text(a.prefill.latency_us));
  if (a.decode.present()) {
    line("decode per token",
         fmt::format("{} (mean of {} steps)", duration_text(a.decode.latency_us / a.decode.steps),
                     a.decode.steps));
  }
  line("bottleneck",
       a.bottleneck + (a.limits.empty() ? "" : fmt::format("   (critical path: {})", limits_text(a.limits))));
  line("energy",
       fmt::format("{}, mean {:.0f} W", energy_text(run.energy_j), run.energy_j / run.latency.seconds()));
  const Cost cost = cost_of(record.experiment, record.graph, run);
  line("cost", cost.usd > 0 ? fmt::format("{:.3g} USD ({})", cost.usd, cost.basis)
                            : fmt::format("not known: {}", cost.basis));
  const Throughput per = throughput_of(tokens_of(record.experiment), run, cost);
  line("throughput",
       fmt::format(
           "{} tokens/s, {:.3g} tokens/J{}", count_text(per.tokens_per_s), per.tokens_per_j,
           per.tokens_per_usd > 0 ? fmt::format(", {} tokens/USD", count_text(per.tokens_per_usd)) : ""));
  text += memory_warnings(record);
  text += "\nLayers: what one of each kind takes of the critical path\n" + layers_text(record);

  if (a.prefill.present()) {
    text +=
        fmt::format(
            "\n{}: the critical path by stage (elapsed: time some node was in the stage; stages overlap)\n",
            causal ? "Prefill" : "Forward pass") +
        phase_text(a.prefill, layers, "total", record.experiment.cascade);
  }
  if (a.decode.present()) {
    text += "\nDecode: the critical path by stage, mean per step\n" +
            phase_text(a.decode, layers, "per token", record.experiment.cascade);
  }
  text += "\nNodes: share of peak over the whole run\n" + nodes_text(record);
  if (const std::string links = links_text(record); !links.empty()) text += "\nLinks\n" + links;
  std::uint64_t instances = 0;
  for (const sim::KernelUse& kernel : run.kernels) instances += kernel.instances;
  text +=
      fmt::format("\n{} distinct kernels for {} launches, {} events, {:.2f} s wall, peak memory {:.0f} MiB\n",
                  run.kernels.size(), count_text(static_cast<double>(instances)),
                  count_text(static_cast<double>(run.events)), record.wall_s, peak_memory_mib());
  return text;
}

}  // namespace tessera::cli
