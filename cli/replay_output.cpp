#include "cli/replay_output.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "cli/table.hpp"

namespace tessera::cli {

namespace {

using traces::Fate;
using traces::Histogram;
using traces::ServingReport;

constexpr std::pair<const char*, double> kQuantiles[] = {
    {"p50", 0.5}, {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99}};
constexpr std::size_t kMostInstances = 16;

double seconds(const ServingReport& r) { return static_cast<double>(r.end_ns) * 1e-9; }
std::int64_t finished(const ServingReport& r) { return r.fates[static_cast<std::size_t>(Fate::finished)]; }

Json distribution(const Histogram& h) {
  Json json{{"count", h.count()}, {"mean", h.mean_ns() * 1e-6}};
  for (const auto& [name, share] : kQuantiles) json[name] = h.quantile_ns(share) * 1e-6;
  json["max"] = static_cast<double>(h.most_ns()) * 1e-6;
  return json;
}

double rate(double count, const ServingReport& r) { return r.end_ns > 0 ? count / seconds(r) : 0; }

Json series(const traces::Series& s) {
  Json mean = Json::array(), most = Json::array();
  for (std::size_t i = 0; i < s.intervals().size(); ++i) {
    mean.push_back(s.mean(i));
    most.push_back(s.intervals()[i].most);
  }
  return {{"interval_s", static_cast<double>(s.width_ns()) * 1e-9},
          {"mean", std::move(mean)},
          {"max", std::move(most)}};
}

double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

}  // namespace

Json replay_json(const ReplayRecord& record) {
  const ServingReport& r = record.report;
  const traces::ServingSpec& s = record.experiment.serving;
  Json fates;
  for (std::size_t f = 0; f < traces::kFates.size(); ++f) fates[std::string{traces::kFates[f]}] = r.fates[f];
  Json json{
      {"experiment", record.experiment.name},
      {"config_hash", record.experiment.config_hash},
      {"trace", record.trace},
      {"format", record.format},
      {"fidelity", record.fidelity},
      {"seed", record.stream.seed},
      {"time_scale", record.stream.time_scale},
      {"rate_scale", record.stream.rate_scale},
      {"simulated_s", seconds(r)},
      {"requests", {{"arrived", r.arrived}, {"fates", std::move(fates)}}},
      {"skipped_lines", {{"count", record.skipped.lines}, {"first", record.skipped.first}}},
      {"ttft_ms", distribution(r.ttft)},
      {"tpot_ms", distribution(r.tpot)},
      {"itl_ms", distribution(r.itl)},
      {"e2e_ms", distribution(r.e2e)},
      {"queue_ms", distribution(r.queue)},
      {"handover_ms", distribution(r.handover)},
      {"throughput",
       {{"requests_per_s", rate(static_cast<double>(finished(r)), r)},
        {"input_tokens_per_s", rate(static_cast<double>(r.input_tokens), r)},
        {"output_tokens_per_s", rate(static_cast<double>(r.output_tokens), r)}}},
      {"goodput",
       {{"ttft_limit_ms", record.objective.ttft_ms},
        {"tpot_limit_ms", record.objective.tpot_ms},
        {"e2e_limit_ms", record.objective.e2e_ms},
        {"good_requests", r.good},
        {"share_of_arrived", share(static_cast<double>(r.good), static_cast<double>(r.arrived))},
        {"requests_per_s", rate(static_cast<double>(r.good), r)}}},
      {"prefix_cache",
       {{"cached_tokens", r.cached_tokens},
        {"hit_share", share(static_cast<double>(r.cached_tokens), static_cast<double>(r.input_tokens))}}},
      {"memory",
       {{"capacity_bytes", record.memory.capacity_bytes},
        {"token_bytes", record.memory.token_bytes},
        {"state_bytes", record.memory.state_bytes},
        {"held_share_mean", r.memory.mean()},
        {"held_share_max", r.memory.most()}}}};
  for (std::size_t i = 0; i < r.instances.size(); ++i) {
    const traces::InstanceReport& in = r.instances[i];
    Json nodes;
    for (std::size_t n = 0; n < record.nodes.size(); ++n)
      nodes.push_back(
          {{"name", record.nodes[n]}, {"busy", share(record.busy_ns[i][n], static_cast<double>(r.end_ns))}});
    json["instances"].push_back(
        {{"role", in.role},
         {"requests", in.requests},
         {"steps", in.steps},
         {"busy", share(static_cast<double>(in.busy_ns), static_cast<double>(r.end_ns))},
         {"gpu_busy", share(static_cast<double>(in.gpu_ns), static_cast<double>(r.end_ns))},
         {"prefilled_tokens", in.prefilled_tokens},
         {"decoded_tokens", in.decoded_tokens},
         {"preemptions", in.preemptions},
         {"evicted_blocks", in.evicted_blocks},
         {"memory_held_mean", in.memory_mean},
         {"memory_held_max", in.memory_most},
         {"nodes", std::move(nodes)}});
  }
  json["over_time"] = {
      {"waiting", series(r.waiting)}, {"running", series(r.running)}, {"memory_held", series(r.memory)}};
  json["overheads"] = {{"step_us", s.step_us},
                       {"sequence_us", s.sequence_us},
                       {"overlap", s.overlap},
                       {"tokenize_us_per_token", s.tokenize_us_per_token}};
  json["step_times"] = {{"timed_steps", record.timed_steps},
                        {"kernels", record.kernels},
                        {"interpolation",
                         {{"checked_steps", record.interpolation.steps},
                          {"mean_error_percent", record.interpolation.mean_percent},
                          {"max_error_percent", record.interpolation.max_percent}}}};
  if (record.funnel) {
    json["step_times"]["funnel"] = {{"simulated_steps", record.funnel->steps},
                                    {"simulated_kernels", record.funnel->kernels},
                                    {"share_of_time", record.funnel->share},
                                    {"cycle_over_cost", record.funnel->ratio},
                                    {"left_out_error_percent", record.funnel->error_percent}};
  }
  return json;
}

std::string replay_text(const ReplayRecord& record) {
  const ServingReport& r = record.report;
  const traces::ServingSpec& s = record.experiment.serving;
  std::string text = fmt::format("{}: {} ({}) on {} x {}, fidelity {}\n\n", record.experiment.name,
                                 record.trace, record.format, s.replicas,
                                 record.nodes.size() == 1 ? record.experiment.machine.comp_gpu.name
                                                          : fmt::format("{} nodes", record.nodes.size()),
                                 record.fidelity);
  const auto line = [&](const char* label, const std::string& value) {
    text += fmt::format("  {:<22}{}\n", label, value);
  };
  line("requests",
       fmt::format("{} arrived in {:.1f} s", count_text(static_cast<double>(r.arrived)), seconds(r)));
  for (std::size_t f = 0; f < traces::kFates.size(); ++f) {
    if (r.fates[f] == 0) continue;
    line("", fmt::format("{} {}", count_text(static_cast<double>(r.fates[f])), traces::kFateTexts[f]));
  }
  if (record.skipped.lines > 0) {
    line("bad lines",
         fmt::format("{} passed over, the first: {}", record.skipped.lines, record.skipped.first.front()));
  }
  line("throughput", fmt::format("{:.3g} requests/s, {} input and {} output tokens/s",
                                 rate(static_cast<double>(finished(r)), r),
                                 count_text(rate(static_cast<double>(r.input_tokens), r)),
                                 count_text(rate(static_cast<double>(r.output_tokens), r))));
  const traces::Objective& o = record.objective;
  if (o.ttft_ms > 0 || o.tpot_ms > 0 || o.e2e_ms > 0) {
    std::vector<std::string> limits;
    if (o.ttft_ms > 0) limits.push_back(fmt::format("TTFT <= {:g} ms", o.ttft_ms));
    if (o.tpot_ms > 0) limits.push_back(fmt::format("TPOT <= {:g} ms", o.tpot_ms));
    if (o.e2e_ms > 0) limits.push_back(fmt::format("end to end <= {:g} ms", o.e2e_ms));
    line("goodput",
         fmt::format("{:.3g} requests/s, {} of those that arrived ({})", rate(static_cast<double>(r.good), r),
                     percent_text(share(static_cast<double>(r.good), static_cast<double>(r.arrived))),
                     fmt::join(limits, ", ")));
  }
  line("prefix cache",
       fmt::format("{} of the prompts' tokens", percent_text(share(static_cast<double>(r.cached_tokens),
                                                                   static_cast<double>(r.input_tokens)))));
  line("queue", fmt::format("{:.1f} requests waiting, {:.1f} running (mean); at most {:.0f} and {:.0f}",
                            r.waiting.mean(), r.running.mean(), r.waiting.most(), r.running.most()));
  line("memory held",
       fmt::format("{} of {} per instance's node (mean), at most {}", percent_text(r.memory.mean()),
                   bytes_text(static_cast<double>(record.memory.capacity_bytes)),
                   percent_text(r.memory.most())));
  text += "\n";
  Table table{{"", "mean", "p50", "p90", "p95", "p99", "max"}};
  const auto row = [&](const char* name, const Histogram& h) {
    std::vector<std::string> cells{name, duration_text(h.mean_ns() * 1e-3)};
    for (const auto& [label, q] : kQuantiles) cells.push_back(duration_text(h.quantile_ns(q) * 1e-3));
    cells.push_back(duration_text(static_cast<double>(h.most_ns()) * 1e-3));
    table.add(std::move(cells));
  };
  row("TTFT", r.ttft);
  row("TPOT", r.tpot);
  row("ITL", r.itl);
  row("end to end", r.e2e);
  row("queue", r.queue);
  if (r.handover.count() > 0) row("hand over", r.handover);
  text += table.text() + "\n";
  Table instances{{"instance", "requests", "steps", "busy", "GPU", "nodes busy", "prefilled", "decoded",
                   "preempted", "memory"}};
  for (std::size_t i = 0; i < std::min(kMostInstances, r.instances.size()); ++i) {
    const traces::InstanceReport& in = r.instances[i];
    const auto [least, most] = std::minmax_element(record.busy_ns[i].begin(), record.busy_ns[i].end());
    const auto of_end = [&](double ns) { return percent_text(share(ns, static_cast<double>(r.end_ns))); };
    instances.add({fmt::format("{} {}", in.role, i), count_text(static_cast<double>(in.requests)),
                   count_text(static_cast<double>(in.steps)), of_end(static_cast<double>(in.busy_ns)),
                   of_end(static_cast<double>(in.gpu_ns)),
                   *least == *most ? of_end(*least) : fmt::format("{} - {}", of_end(*least), of_end(*most)),
                   count_text(static_cast<double>(in.prefilled_tokens)),
                   count_text(static_cast<double>(in.decoded_tokens)),
                   count_text(static_cast<double>(in.preemptions)), percent_text(in.memory_mean)});
  }
  text += instances.text();
  if (r.instances.size() > kMostInstances)
    text += fmt::format("  and {} more\n", r.instances.size() - kMostInstances);
  text += fmt::format(
      "\nStep times: {} steps timed ({} kernels), interpolated within {:.1f} % (mean; {:.1f} % at worst of "
      "{})\n",
      record.timed_steps, record.kernels, record.interpolation.mean_percent, record.interpolation.max_percent,
      record.interpolation.steps);
  if (record.funnel) {
    text += fmt::format(
        "Funnel: {} steps, {} of the time, by the cycle model ({} kernels): {:.3f} of the cost model; a step "
        "left out is predicted within {:.1f} %\n",
        record.funnel->steps, percent_text(record.funnel->share), record.funnel->kernels,
        record.funnel->ratio, record.funnel->error_percent);
  }
  text += fmt::format("{:.2f} s wall, peak memory {:.0f} MiB\n", record.wall_s, peak_memory_mib());
  return text;
}

std::string request_header() {
  return "line,fate,arrival_s,started_s,first_token_s,last_token_s,input_tokens,cached_tokens,output_tokens,"
         "produced,preemptions,instance,decode_instance,handed_over_s\n";
}

std::string request_line(const traces::RequestRecord& r) {
  const auto s = [](std::int64_t ns) {
    return ns < 0 ? std::string{} : fmt::format("{}.{:09}", ns / 1'000'000'000, ns % 1'000'000'000);
  };
  const auto number = [](std::int32_t n) { return n < 0 ? std::string{} : fmt::format("{}", n); };
  return fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n", r.line,
                     traces::kFates[static_cast<std::size_t>(r.fate)], s(r.arrival_ns), s(r.started_ns),
                     s(r.first_token_ns), s(r.last_token_ns), r.input_tokens, r.cached_tokens,
                     r.output_tokens, r.produced, r.preemptions, number(r.instance),
                     number(r.decode_instance), s(r.handed_over_ns));
}

}  // namespace tessera::cli
