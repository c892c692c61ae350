#include <fmt/format.h>

#include "cli/run_report.hpp"

namespace tessera::cli {

namespace {

Json capital_json(const Experiment& e, const GpuSpec& gpu, const ManufactureSpec& manufacture) {
  if (manufacture.die_mm2 <= 0) return {};
  const cost::Capital c =
      cost::capital_of(manufacture, static_cast<double>(gpu.hbm.capacity_bytes), e.ownership);
  return {{"gpu", gpu.name},
          {"dies_per_wafer", c.dies_per_wafer},
          {"yield", c.yield},
          {"dies_usd", c.dies_usd},
          {"hbm_usd", c.hbm_usd},
          {"package_usd", c.package_usd},
          {"board_usd", c.board_usd},
          {"price_usd", c.price_usd},
          {"usd_per_hour", c.usd_per_hour}};
}

const GpuSpec& gpu_of(const RunRecord& record, const models::Node& node) {
  const sim::MachineSpec& machine = record.experiment.machine;
  return node.kind == models::NodeKind::comp ? machine.comp_gpu : machine.attn_gpu;
}

Json stages_json(const std::array<double, models::kStages>& us) {
  Json json = Json::object();
  for (std::size_t s = 0; s < us.size(); ++s) {
    if (us[s] > 0) json[std::string{models::name_of(static_cast<models::Stage>(s))}] = us[s];
  }
  return json;
}

Json limits_json(const std::vector<LimitShare>& limits) {
  Json json = Json::array();
  for (const LimitShare& limit : limits) json.push_back({{"name", limit.name}, {"share", limit.share}});
  return json;
}

Json use_json(const PhaseUse& use) {
  return {{"busy", use.busy}, {"tensor", use.tensor}, {"mufu", use.mufu}, {"hbm", use.hbm}, {"l2", use.l2}};
}

Json phase_json(const Phase& phase) {
  Json json;
  json["latency_us"] = phase.latency_us;
  json["steps"] = phase.steps;
  Json stages = Json::object();
  for (std::size_t s = 0; s < phase.stages.size(); ++s) {
    const StageTimes& t = phase.stages[s];
    if (t.tasks == 0) continue;
    stages[std::string{models::name_of(static_cast<models::Stage>(s))}] = {
        {"critical_us", t.critical_us},
        {"share", phase.latency_us > 0 ? t.critical_us / phase.latency_us : 0.0},
        {"elapsed_us", t.elapsed_us},
        {"tasks", t.tasks}};
  }
  json["stages"] = std::move(stages);
  json["host_us"] = phase.host_us;
  json["launch_us"] = phase.launch_us;
  json["exposed_communication_us"] = phase.exposed_communication_us;
  json["network_only_us"] = phase.network_only_us;
  json["limits"] = limits_json(phase.limits);
  json["utilization"] = {{"comp", use_json(phase.comp)}, {"attn", use_json(phase.attn)}};
  return json;
}

}  // namespace

Json run_json(const RunRecord& record) {
  const Experiment& e = record.experiment;
  const sim::RunResult& run = record.run;
  const Analysis& a = record.analysis;
  Json json;
  json["name"] = e.name;
  json["model"] = e.model.name;
  json["hardware"] = {{"comp", e.machine.comp_gpu.name}, {"attn", e.machine.attn_gpu.name}};
  json["fabric"] = e.machine.fabric.name;
  json["sharding"] = {{"mode", e.cascade ? "cascade" : e.tensor_gpus > 0 ? "tensor" : "single"}};
  if (e.tensor_gpus > 0) json["sharding"]["gpus"] = e.tensor_gpus;
  if (e.cascade) {
    json["sharding"].update({{"alpha", e.sharding.alpha()},
                             {"beta", e.sharding.beta()},
                             {"R", e.r_scheme},
                             {"S", e.s_scheme},
                             {"comp_largest_cluster", e.exposures.comp.largest_cluster},
                             {"comp_smallest_gap", e.exposures.comp.smallest_gap},
                             {"attn_largest_cluster", e.exposures.attn.largest_cluster},
                             {"attn_smallest_gap", e.exposures.attn.smallest_gap}});
  }
  json["workload"] = {
      {"prefill_tokens", e.workload.prefill_tokens}, {"cached_tokens", e.workload.cached_tokens},
      {"decode_steps", e.workload.decode_steps},     {"batch", e.workload.batch},
      {"host_step_us", e.workload.host_step_us},     {"host_sequence_us", e.workload.host_sequence_us}};
  json["launch"] = e.cuda_graph ? "graph" : "host";
  json["notes"] = e.notes;
  json["fidelity"] = record.fidelity;
  json["exact"] = record.exact;
  json["latency_us"] = run.latency.us();
  json["ttft_us"] = a.prefill.latency_us;
  json["decode_us_per_token"] = a.decode.present() ? a.decode.latency_us / a.decode.steps : 0.0;
  json["tokens"] = e.workload.batch * (e.workload.new_tokens() + e.workload.decode_steps);

  json["nodes"] = Json::array();
  for (std::size_t n = 0; n < record.graph.nodes.size(); ++n) {
    const models::Node& node = record.graph.nodes[n];
    const sim::NodeUse& use = run.nodes[n];
    const GpuSpec& gpu = gpu_of(record, node);
    json["nodes"].push_back({{"name", node.name},
                             {"kind", node.kind == models::NodeKind::comp ? "comp" : "attn"},
                             {"gpu", gpu.name},
                             {"busy", use.busy},
                             {"tensor", use.tensor},
                             {"hbm", use.hbm},
                             {"l2", use.l2},
                             {"mufu", use.mufu},
                             {"link_out", use.link_out},
                             {"link_in", use.link_in},
                             {"bytes_out", use.bytes_out},
                             {"bytes_in", use.bytes_in},
                             {"energy_j", use.energy_j},
                             {"memory_bytes", use.memory_bytes},
                             {"memory_fits", use.memory_bytes <= gpu.hbm.capacity_bytes}});
  }
  json["layers"] = Json::array();
  for (const LayerTimes& layer : a.layers) {
    if (layer.layer < 0) continue;
    json["layers"].push_back({{"layer", layer.layer},
                              {"prefill_us", layer.prefill_us},
                              {"decode_us", layer.decode_us},
                              {"prefill_stages_us", stages_json(layer.prefill_stages)},
                              {"decode_stages_us", stages_json(layer.decode_stages)}});
  }
  json["breakdown"] = Json::object();
  if (a.prefill.present()) json["breakdown"]["prefill"] = phase_json(a.prefill);
  if (a.decode.present()) json["breakdown"]["decode"] = phase_json(a.decode);
  json["links"] = Json::array();
  for (const sim::LinkUse& link : run.links) {
    json["links"].push_back({{"name", link.name}, {"bytes", link.bytes}, {"utilization", link.utilization}});
  }
  json["kernels"] = Json::array();
  for (std::size_t k = 0; k < run.kernels.size(); ++k) {
    const sim::KernelUse& kernel = run.kernels[k];
    const validate::ErrorBar& bar = record.error.kernels[k];
    json["kernels"].push_back({{"signature", kernel.signature},
                               {"instances", kernel.instances},
                               {"latency_us", kernel.result.latency.us()},
                               {"bottleneck", kernel.result.bottleneck},
                               {"calibration", validate::name_of(bar.standing)},
                               {"error_percent", bar.known() ? Json(bar.percent()) : Json()}});
  }
  json["bottleneck"] = a.bottleneck;
  json["limits"] = limits_json(a.limits);
  json["energy_j"] = run.energy_j;
  const Cost cost = cost_of(e, record.graph, run);
  json["cost_usd"] = cost.usd;
  json["cost_basis"] = cost.basis;
  const Throughput throughput = throughput_of(tokens_of(e), run, cost);
  json["tokens_per_s"] = throughput.tokens_per_s;
  json["tokens_per_j"] = throughput.tokens_per_j;
  json["tokens_per_usd"] = throughput.tokens_per_usd;
  json["capital"] = {{"comp", capital_json(e, e.machine.comp_gpu, e.comp->manufacture)},
                     {"attn", capital_json(e, e.machine.attn_gpu, e.attn->manufacture)}};
  json["ci95_percent"] = run.ci95_percent;
  json["calibration"] = {{"comp", e.machine.comp_gpu.calibration}, {"attn", e.machine.attn_gpu.calibration}};
  json["error_bar"] = error_json(record.error, run.latency.us());
  json["seed"] = record.seed;
  json["config_hash"] = e.config_hash;
  json["wall_s"] = record.wall_s;
  json["events"] = run.events;
  return json;
}

}  // namespace tessera::cli
