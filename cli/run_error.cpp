#include "cli/run_error.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <tuple>

#include "cli/analysis.hpp"
#include "cli/table.hpp"

namespace tessera::cli {

namespace {

using validate::Standing;

constexpr std::size_t kMostNamed = 4;  // kinds of kernels in a line of text, the largest shares first

struct Gpu {
  const std::string& name;
  const config::Calibration& calibration;
};

Gpu gpu_of(const Experiment& e, const models::Node& node) {
  return node.kind == models::NodeKind::comp ? Gpu{e.machine.comp_gpu.name, e.comp->calibration}
                                             : Gpu{e.machine.attn_gpu.name, e.attn->calibration};
}

std::optional<models::TaskId> last_task(const sim::RunResult& run) {
  std::optional<models::TaskId> last;
  for (models::TaskId t = 0; t < run.tasks.size(); ++t) {
    if (!last || run.tasks[t].end > run.tasks[*last].end) last = t;
  }
  return last;
}

}  // namespace

RunError error_of(const Experiment& e, const models::TaskGraph& graph, const sim::RunResult& run,
                  const std::string& fidelity) {
  RunError error;
  const auto bar_of = [&](models::TaskId task) {
    const auto& compute = std::get<models::Compute>(graph.tasks[task].work);
    return validate::error_bar(gpu_of(e, graph.nodes[graph.tasks[task].node]).calibration, fidelity,
                               compute.op, e.cuda_graph, /*random_data=*/true);
  };
  error.kernels.resize(run.kernels.size());
  std::vector<bool> done(run.kernels.size());
  for (models::TaskId t = 0; t < run.tasks.size(); ++t) {
    const std::uint32_t kernel = run.tasks[t].kernel;
    if (kernel == UINT32_MAX || done[kernel]) continue;
    error.kernels[kernel] = bar_of(t);
    done[kernel] = true;
  }

  const auto last = last_task(run);
  if (!last || run.latency <= Time{}) return error;
  std::map<std::tuple<std::string, std::string, Standing>, RunError::Part> parts;
  for (const PathSpan& span : critical_path(graph, run, *last, Time{})) {
    const double share = (span.end - span.begin).us() / run.latency.us();
    validate::ErrorBar bar;
    std::string gpu;
    if (span.kind == PathSpan::Kind::transfer) {
      bar = {.kind = "network", .reasons = {"networks are not calibrated"}};
    } else if (span.kind == PathSpan::Kind::host) {
      bar = {.kind = "host", .reasons = {"the host's part is the workload's"}};
    } else {
      bar = bar_of(span.task);
      gpu = gpu_of(e, graph.nodes[graph.tasks[span.task].node]).name;
    }
    RunError::Part& part = parts[{bar.kind, gpu, bar.standing}];
    if (part.share == 0) part = {.bar = std::move(bar), .gpu = gpu};
    part.share += share;
  }
  std::vector<validate::PathShare> shares;
  std::vector<std::string> alike;
  for (const auto& [key, part] : parts) {
    shares.push_back({part.bar, part.share});
    alike.push_back(part.bar.kind + "|" + part.gpu);
    error.parts.push_back(part);
  }
  error.run = validate::combine(shares, alike);
  std::stable_sort(error.parts.begin(), error.parts.end(),
                   [](const auto& a, const auto& b) { return a.share > b.share; });
  return error;
}

std::string text_of(const RunError& error) {
  const validate::RunErrorBar& r = error.run;
  if (r.calibrated_share + r.outside_share <= 0) {
    const auto kernel =
        std::find_if(error.parts.begin(), error.parts.end(), [](const auto& p) { return !p.gpu.empty(); });
    return kernel == error.parts.end() ? "uncalibrated: the error is not known"
                                       : validate::text_of(kernel->bar);
  }
  std::string text = fmt::format("+- {:.2g} %{} (95 %); of the critical path {} calibrated", r.percent,
                                 r.outside_share + r.uncalibrated_share > 0.005 ? " or more" : "",
                                 percent_text(r.calibrated_share));
  const auto list = [&](Standing standing, const char* what, double share) {
    if (share < 0.0005) return;
    std::vector<std::string> kinds;
    for (const RunError::Part& p : error.parts) {
      if (p.bar.standing == standing && std::find(kinds.begin(), kinds.end(), p.bar.kind) == kinds.end())
        kinds.push_back(p.bar.kind);
    }
    const std::size_t named = std::min(kinds.size(), kMostNamed);
    const std::string more = kinds.size() > named ? fmt::format(" and {} more", kinds.size() - named) : "";
    kinds.resize(named);
    text += fmt::format(", {} {} ({}{})", percent_text(share), what, fmt::join(kinds, ", "), more);
  };
  list(Standing::outside, "outside the calibrated range", r.outside_share);
  list(Standing::uncalibrated, "uncalibrated", r.uncalibrated_share);
  return text;
}

Json error_json(const validate::ErrorBar& bar, double latency_us) {
  Json json;
  json["standing"] = validate::name_of(bar.standing);
  json["percent"] = bar.known() ? Json(bar.percent()) : Json();
  if (bar.known()) {
    const double factor = std::exp(2 * bar.sigma);
    json["low_us"] = latency_us / factor;
    json["high_us"] = latency_us * factor;
    json["held_out"] = {{"kind", bar.kind},
                        {"count", bar.held_out.count},
                        {"mape_percent", bar.held_out.mape_percent},
                        {"p90_ape_percent", bar.held_out.p90_ape_percent},
                        {"bias_percent", bar.held_out.bias_percent},
                        {"log_sigma", bar.sigma}};
  }
  json["reasons"] = bar.reasons;
  return json;
}

Json error_json(const RunError& error, double latency_us) {
  const validate::RunErrorBar& r = error.run;
  const bool known = r.calibrated_share + r.outside_share > 0;
  Json json;
  json["percent"] = known ? Json(r.percent) : Json();
  if (known) {
    json["low_us"] = latency_us / (1 + r.percent / 100);
    json["high_us"] = latency_us * (1 + r.percent / 100);
  }
  json["calibrated_share"] = r.calibrated_share;
  json["outside_share"] = r.outside_share;
  json["uncalibrated_share"] = r.uncalibrated_share;
  json["parts"] = Json::array();
  for (const RunError::Part& p : error.parts) {
    json["parts"].push_back({{"kind", p.bar.kind},
                             {"gpu", p.gpu},
                             {"share", p.share},
                             {"standing", validate::name_of(p.bar.standing)},
                             {"percent", p.bar.known() ? Json(p.bar.percent()) : Json()},
                             {"reasons", p.bar.reasons}});
  }
  return json;
}

}  // namespace tessera::cli
