#include "cli/replay_timeline.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cli/trace_events.hpp"

namespace tessera::cli {

namespace {

using traces::RequestRecord;
using traces::Series;
using traces::ServingHistory;
using traces::StepRecord;
using traces::Timeline;

constexpr int kStepTrack = 1, kRequestTracks = 1000;

Time at(std::int64_t ns) { return Time::nanoseconds(ns); }

/// A counter that changes where its value, to two decimals, does.
class Steps {
 public:
  Steps(Timeline& timeline, std::size_t process, std::string name, std::string_view unit)
      : timeline_{timeline}, process_{process}, name_{std::move(name)}, unit_{unit} {}
  void value(std::int64_t at_ns, double v) {
    const std::int64_t rounded = std::llround(100 * v);
    if (drawn_ && rounded == last_) return;
    drawn_ = true;
    last_ = rounded;
    timeline_.counter(process_, at(at_ns), name_, static_cast<double>(rounded) / 100, unit_);
  }

 private:
  Timeline& timeline_;
  std::size_t process_;
  std::string name_;
  std::string_view unit_;
  bool drawn_ = false;
  std::int64_t last_ = 0;
};

void draw_series(Timeline& timeline, std::size_t process, const char* name, std::string_view unit,
                 const Series& series, double scale) {
  Steps counter{timeline, process, name, unit};
  for (std::size_t i = 0; i < series.intervals().size(); ++i)
    counter.value(static_cast<std::int64_t>(i) * series.width_ns(), scale * series.mean(i));
  counter.value(series.end_ns(), 0);
}

void draw_steps(Timeline& timeline, std::size_t process, const std::vector<StepRecord>& steps) {
  for (const StepRecord& s : steps) {
    const char* kind = s.decoded_tokens == 0 ? "prefill" : s.prefill_tokens == 0 ? "decode" : "mixed";
    std::string name = s.steps > 1 ? fmt::format("{} steps: ", s.steps) : "";
    if (s.prefill_tokens > 0) name += fmt::format("prefill {}", s.prefill_tokens);
    if (s.decoded_tokens > 0)
      name += fmt::format("{}decode {}", s.prefill_tokens > 0 ? ", " : "", s.decoded_tokens);
    timeline.slice(
        process, kStepTrack, at(s.start_ns), at(s.end_ns), name, kind,
        fmt::format(R"("steps":{},"prefill_tokens":{},"decoded_tokens":{},"gpu_us":{:.3f})", s.steps,
                    s.prefill_tokens, s.decoded_tokens, static_cast<double>(s.gpu_ns) * 1e-3));
  }
}

/// A request's stay on an instance.
struct Stay {
  std::int64_t from_ns = 0, to_ns = 0;
  const RequestRecord* request = nullptr;
  bool decodes_here = true, prefills_here = true;
};

void draw_stays(Timeline& timeline, std::size_t process, std::vector<Stay> stays) {
  std::stable_sort(stays.begin(), stays.end(),
                   [](const Stay& a, const Stay& b) { return a.from_ns < b.from_ns; });
  Lanes lanes;
  for (const Stay& s : stays) {
    const RequestRecord& r = *s.request;
    const int track = kRequestTracks + lanes.take(at(s.from_ns), at(s.to_ns));
    const std::string args = fmt::format(
        R"("line":{},"input_tokens":{},"cached_tokens":{},"output_tokens":{},"produced":{},"queued_ms":{:.3f},"preemptions":{},"fate":{})",
        r.line, r.input_tokens, r.cached_tokens, r.output_tokens, r.produced,
        static_cast<double>(r.started_ns - r.arrival_ns) * 1e-6, r.preemptions,
        json_string(traces::kFates[static_cast<std::size_t>(r.fate)]));
    // The line tells requests apart, but for copies (--rate-scale); the time does those.
    const std::uint64_t flow = r.decode_instance < 0 ? 0
                                                     : (static_cast<std::uint64_t>(r.line) << 32) ^
                                                           static_cast<std::uint64_t>(r.handed_over_ns);
    const std::int64_t decodes_from = !s.prefills_here       ? s.from_ns
                                      : r.first_token_ns < 0 ? s.to_ns
                                                             : std::min(r.first_token_ns, s.to_ns);
    if (s.prefills_here && s.from_ns < decodes_from) {
      timeline.slice(process, track, at(s.from_ns), at(decodes_from), fmt::format("prefill {}", r.line),
                     "prefill", args, flow);
    }
    if (decodes_from >= s.to_ns) continue;
    if (s.decodes_here) {
      timeline.slice(process, track, at(decodes_from), at(s.to_ns), fmt::format("decode {}", r.line),
                     "decode", args, s.prefills_here ? 0 : flow);
    } else {
      timeline.slice(process, track, at(decodes_from), at(s.to_ns), fmt::format("hand over {}", r.line),
                     "handover", args);
    }
  }
  for (int lane = 0; lane < lanes.count(); ++lane)
    timeline.name_track(process, kRequestTracks + lane,
                        lane == 0 ? "requests" : fmt::format("requests {}", lane));
}

}  // namespace

ServingHistory::Limits limits_of(const Detail& detail, std::size_t instances, std::size_t nodes) {
  const std::size_t counters = instances * (3 + nodes);
  // A request takes up to three slices; as many for requests as for steps.
  return {.steps = detail.slices / 2,
          .requests = std::max<std::size_t>(1, detail.slices / 6),
          .intervals = std::clamp<std::size_t>(detail.points / counters, 16, 1 << 16)};
}

void draw_replay(Timeline& timeline, const ServingHistory& history, const std::vector<std::string>& nodes) {
  std::vector<std::vector<Stay>> stays(history.instances().size());
  for (const RequestRecord& r : history.requests().requests()) {
    if (r.started_ns < 0 || r.last_token_ns < r.started_ns) continue;
    const auto first = static_cast<std::size_t>(r.instance);
    const bool apart = r.decode_instance >= 0;
    stays[first].push_back(
        {r.started_ns, apart ? r.handed_over_ns : r.last_token_ns, &r, /*decodes_here=*/!apart});
    if (apart && r.last_token_ns > r.handed_over_ns) {
      stays[static_cast<std::size_t>(r.decode_instance)].push_back(
          {r.handed_over_ns, r.last_token_ns, &r, true, /*prefills_here=*/false});
    }
  }
  std::int64_t grain_ns = 0;
  for (std::size_t n = 0; n < history.instances().size(); ++n) {
    const ServingHistory::Instance& i = history.instances()[n];
    const std::size_t process = n + 1;
    grain_ns = std::max(grain_ns, i.steps.grain_ns());
    timeline.name_process(process, fmt::format("instance {}", n));
    timeline.name_track(process, kStepTrack, "steps");
    draw_steps(timeline, process, i.steps.steps());
    draw_stays(timeline, process, std::move(stays[n]));
    draw_series(timeline, process, "waiting", "requests", i.waiting, 1);
    draw_series(timeline, process, "running", "requests", i.running, 1);
    draw_series(timeline, process, "cache memory held", traces::kPercent, i.memory, 100);
    const auto& points = i.busy.points();
    for (std::size_t node = 0; node < nodes.size(); ++node) {
      Steps busy{timeline, process, nodes[node] + " busy", traces::kPercent};
      for (std::size_t p = 0; p + 1 < points.size(); ++p) {
        busy.value(points[p].at_ns, 100 * (points[p + 1].sums[node] - points[p].sums[node]) /
                                        static_cast<double>(points[p + 1].at_ns - points[p].at_ns));
      }
      if (!points.empty()) busy.value(points.back().at_ns, 0);
    }
  }
  timeline.note("steps", grain_ns == 0
                             ? "every step"
                             : fmt::format("joined within {:.3f} ms", static_cast<double>(grain_ns) * 1e-6));
  timeline.note("requests", history.requests().stride() == 1
                                ? "every request that began"
                                : fmt::format("one in {}", history.requests().stride()));
  timeline.note("counters", "means over intervals");
}

}  // namespace tessera::cli
