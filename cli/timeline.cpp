#include "cli/timeline.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "cli/output.hpp"
#include "cli/trace_events.hpp"
#include "sim/gpu/recording.hpp"
#include "traces/timelines/perfetto.hpp"
#include "traces/timelines/vcd.hpp"

namespace tessera::cli {

namespace {

bool is_protobuf(const std::string& file) { return file.ends_with(".pftrace"); }

constexpr int kComputeTrack = 1;
constexpr int kOutTracks = 1000, kInTracks = 2000;  // the first track of each direction

constexpr std::pair<const char*, const char*> kMeans[] = {
    {"l2", "L2"}, {"mufu", "MUFU"}, {"shared", "shared memory"}, {"tensor", "tensor cores"}};

std::string phase_name(const models::Task& task) {
  return task.step < 0 ? "prefill" : fmt::format("decode {}", task.step);
}

std::string layer_name(const models::Task& task) {
  return task.layer < 0 ? "" : fmt::format(" layer {}", task.layer);
}

/// A GPC's activity is that of its tensor cores.
std::string counter_name(const std::string& track) {
  return track.starts_with("GPC") ? track + " tensor cores" : track;
}

/// A kernel's use of the GPU over [start, end): by power window where the simulation says so, else its mean.
/// An interpolated kernel's differ in length from the one simulated.
void add_kernel(Counters& counters, std::size_t process, Time start, Time end,
                const sim::KernelResult& kernel) {
  const double scale = (end - start).us() / kernel.latency.us();
  const auto at = [&](Time offset) { return min(end, start + Time::from_us(offset.us() * scale)); };
  for (const auto& [track, stretches] : kernel.activity) {
    // Units are booked ahead: what a window counts beyond its length is work of the next.
    double ahead_us = 0;
    for (const sim::Activity& a : stretches) {
      if (track == "power") {  // no unit: it may exceed the peak before the governor acts
        counters.add(process, track, at(a.start), at(a.end), a.share);
        continue;
      }
      const double window_us = (a.end - a.start).us(), busy_us = a.share * window_us + ahead_us;
      counters.add(process, counter_name(track), at(a.start), at(a.end), std::min(1.0, busy_us / window_us));
      ahead_us = std::max(0.0, busy_us - window_us);
    }
  }
  const Time executes = at(max(Time{}, kernel.latency - kernel.execution));
  for (const auto& [key, label] : kMeans) {
    if (const auto share = kernel.utilization.find(key); share != kernel.utilization.end())
      counters.add(process, label, executes, end, share->second);
  }
}

std::size_t stretches_of(const sim::RunResult& run) {
  std::vector<std::size_t> of_kernel;
  for (const sim::KernelUse& kernel : run.kernels) {
    std::size_t stretches = std::size(kMeans);
    for (const auto& [track, list] : kernel.result.activity) stretches += list.size();
    of_kernel.push_back(stretches);
  }
  std::size_t stretches = 0;
  for (const sim::TaskTiming& timing : run.tasks) {
    if (timing.kernel < of_kernel.size()) stretches += of_kernel[timing.kernel];
  }
  for (const sim::LinkUse& link : run.links) stretches += link.activity.size();
  return stretches;
}

/// The first decode step whose slices are not drawn.
std::int32_t first_step_left_out(const models::TaskGraph& graph, std::size_t most) {
  std::vector<std::size_t> slices;  // by step, the prefill first
  for (const models::Task& task : graph.tasks) {
    const auto step = static_cast<std::size_t>(task.step + 1);
    if (slices.size() <= step) slices.resize(step + 1);
    slices[step] += std::holds_alternative<models::Transfer>(task.work) ? 2 : 1;
  }
  std::size_t sum = 0, step = 0;
  while (step < slices.size() && (step == 0 || sum + slices[step] <= most)) sum += slices[step++];
  return static_cast<std::int32_t>(step) - 1;
}

}  // namespace

namespace {

/// Where and when what was recorded of one kernel is drawn.
struct Inset {
  std::size_t process = 0;  ///< of the SM; that of the HBM is the next
  std::string of;           ///< behind the processes' names
  Time start;
  double scale = 1;
  std::size_t most_slices = 0, most_points = 0;

  Time at(Time offset) const {
    return scale == 1 ? start + offset : start + Time::from_us(offset.us() * scale);
  }
};

/// The roles of the CTAs on one SM, which take turns in its slots.
void draw_roles(traces::Timeline& trace, const sim::RoleRecorder& roles, const Inset& inset) {
  trace.name_process(inset.process, "SM 0 of GPC 0" + inset.of);
  std::map<std::tuple<std::uint16_t, std::uint8_t, std::uint8_t>, int> tracks;
  const std::size_t drawn = std::min(inset.most_slices, roles.spans().size());
  for (std::size_t i = 0; i < drawn; ++i) {
    const sim::RoleSpan& s = roles.spans()[i];
    const sim::RoleRecorder::Kernel& kernel = roles.kernels()[s.kernel];
    const Time start = inset.at(s.start), end = inset.at(s.end);
    if (start.fs / 1'000'000 == end.fs / 1'000'000) continue;  // formats have whole ns
    const int track = 1 + 1000 * s.kernel + 32 * s.slot + s.role;
    if (tracks.try_emplace({s.kernel, s.slot, s.role}, track).second) {
      trace.name_track(inset.process, track,
                       fmt::format("{}CTA {} {}", roles.kernels().size() > 1 ? kernel.name + ": " : "",
                                   s.slot, kernel.roles[s.role]));
    }
    trace.slice(inset.process, track, start, end, sim::text_of(s, kernel),
                s.blocked == sim::Blocked::no ? "operation" : "wait", "");
  }
  const std::size_t left_out = roles.spans().size() - drawn + roles.left_out();
  trace.note("warp roles", left_out == 0 ? "all of one SM"
                                         : fmt::format("of one SM; the last {} spans left out", left_out));
}

void draw_channels(traces::Timeline& trace, const sim::ChannelRecorder& recorder, const Inset& inset) {
  const std::size_t process = inset.process + 1;
  if (recorder.channels().empty()) return;  // what it reads lay in the L2
  trace.name_process(process, "HBM" + inset.of);
  std::size_t points = 0;
  for (const auto& stretches : recorder.channels()) points += stretches.size();
  // Means over so many stretches in a row.
  const std::size_t together = std::max<std::size_t>(1, (points + inset.most_points - 1) / inset.most_points);
  for (std::size_t c = 0; c < recorder.channels().size(); ++c) {
    const std::string name = fmt::format("pseudo-channel {:03}", c);
    const std::vector<sim::ChannelRecorder::Stretch>& stretches = recorder.channels()[c];
    std::int64_t last = -1;
    double busy_us =
        0;  // the bus is booked ahead: what a window counts beyond its length is work of the next
    for (std::size_t first = 0; first < stretches.size(); first += together) {
      const std::size_t end = std::min(first + together, stretches.size());
      for (std::size_t s = first; s < end; ++s)
        busy_us += stretches[s].share * (stretches[s].end - stretches[s].start).us();
      const double window_us = (stretches[end - 1].end - stretches[first].start).us();
      const std::int64_t value = std::llround(1e4 * std::min(1.0, busy_us / window_us));
      busy_us = std::max(0.0, busy_us - window_us);
      if (value != last)
        trace.counter(process, inset.at(stretches[first].start), name, static_cast<double>(value) / 100);
      last = value;
    }
    if (!stretches.empty()) trace.counter(process, inset.at(stretches.back().end), name, 0);
  }
}

/// What was recorded of one kernel of the run, where it first ran.
void draw_recorded(traces::Timeline& trace, const models::TaskGraph& graph, const sim::RunResult& run,
                   const Detail& detail) {
  const models::TaskId none = static_cast<models::TaskId>(graph.tasks.size());
  models::TaskId first = none;
  for (models::TaskId t = 0; t < none; ++t) {
    if (run.tasks[t].kernel != run.recorded_kernel) continue;
    if (first == none || run.tasks[t].start < run.tasks[first].start) first = t;
  }
  if (first == none) return;
  const models::Task& task = graph.tasks[first];
  const sim::TaskTiming& timing = run.tasks[first];
  const std::string of = fmt::format(", {} during {}{} ({})", graph.nodes[task.node].name,
                                     models::name_of(task.stage), layer_name(task), phase_name(task));
  const Inset inset{
      .process = graph.nodes.size() + 2,
      .of = of,
      .start = timing.start,
      .scale = (timing.end - timing.start).us() / run.kernels[timing.kernel].result.latency.us(),
      .most_slices = detail.slices / 4,
      .most_points = detail.points / 4};
  draw_roles(trace, run.recording->roles, inset);
  draw_channels(trace, run.recording->channels, inset);
}

void draw_run(traces::Timeline& trace, const models::TaskGraph& graph, const sim::RunResult& run,
              const Detail& detail) {
  const std::size_t fabric = graph.nodes.size() + 1;  // its process
  // A stretch takes up to two points.
  Counters counters{run.latency, 2 * stretches_of(run) <= detail.points, detail.points};
  std::vector<models::TaskId> order(graph.tasks.size());
  for (models::TaskId t = 0; t < order.size(); ++t) order[t] = t;
  std::stable_sort(order.begin(), order.end(), [&](models::TaskId a, models::TaskId b) {
    return run.tasks[a].start < run.tasks[b].start;
  });
  const std::int32_t left_out = first_step_left_out(graph, detail.slices);

  std::vector<Lanes> out(graph.nodes.size()), in(graph.nodes.size());
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    trace.name_process(n + 1, graph.nodes[n].name);
    trace.name_track(n + 1, kComputeTrack, "compute stream");
  }
  std::int32_t steps = 0;
  for (const models::TaskId t : order) {
    const models::Task& task = graph.tasks[t];
    const sim::TaskTiming& timing = run.tasks[t];
    const std::size_t process = task.node + 1;
    const bool drawn = task.step < left_out;
    steps = std::max(steps, task.step + 1);
    const std::string where = fmt::format(R"("phase":"{}","task":{})", phase_name(task), t);
    if (const auto* compute = std::get_if<models::Compute>(&task.work)) {
      const sim::KernelResult& kernel = run.kernels[timing.kernel].result;
      add_kernel(counters, process, timing.start, timing.end, kernel);
      if (!drawn) continue;
      trace.slice(
          process, kComputeTrack, timing.start, timing.end,
          fmt::format("{}{} {}", models::name_of(task.stage), layer_name(task), models::kind_of(compute->op)),
          models::name_of(task.stage),
          fmt::format(R"({},"operator":{},"bottleneck":{})", where,
                      json_string(run.kernels[timing.kernel].signature), json_string(kernel.bottleneck)));
      continue;
    }
    if (!drawn) continue;
    const auto& transfer = std::get<models::Transfer>(task.work);
    const auto slice = [&](std::size_t node, Lanes& lanes, int first, const char* preposition,
                           std::size_t peer) {
      trace.slice(node + 1, first + lanes.take(timing.start, timing.end), timing.start, timing.end,
                  fmt::format("{}{} {} {}", models::name_of(task.stage), layer_name(task), preposition,
                              graph.nodes[peer].name),
                  models::name_of(task.stage), fmt::format(R"({},"bytes":{})", where, transfer.bytes),
                  std::uint64_t{t} + 1);
    };
    slice(task.node, out[task.node], kOutTracks, "to", transfer.destination);
    slice(transfer.destination, in[transfer.destination], kInTracks, "from", task.node);
  }
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    for (int lane = 0; lane < out[n].count(); ++lane) {
      trace.name_track(n + 1, kOutTracks + lane, lane == 0 ? "link out" : fmt::format("link out {}", lane));
    }
    for (int lane = 0; lane < in[n].count(); ++lane) {
      trace.name_track(n + 1, kInTracks + lane, lane == 0 ? "link in" : fmt::format("link in {}", lane));
    }
  }
  if (graph.nodes.size() > 1) {
    trace.name_process(fabric, "fabric");
    for (const sim::LinkUse& link : run.links) {
      counters.declare(fabric, link.name);
      for (const sim::Activity& a : link.activity) counters.add(fabric, link.name, a.start, a.end, a.share);
    }
  }
  counters.write(trace);
  if (run.recording) draw_recorded(trace, graph, run, detail);
  trace.note("slices", left_out >= steps
                           ? "every kernel and message"
                           : fmt::format("prefill and the first {} of {} decode steps", left_out, steps));
}

void draw_kernel(traces::Timeline& trace, const std::string& title, const sim::KernelResult& result,
                 const sim::Recording& recording, const Detail& detail) {
  trace.name_process(1, "GPU");
  trace.name_track(1, kComputeTrack, "compute stream");
  trace.slice(1, kComputeTrack, Time{}, result.latency, title, "kernel",
              fmt::format(R"("bottleneck":{},"execution_us":{})", json_string(result.bottleneck),
                          result.execution.us()));
  std::size_t stretches = std::size(kMeans);
  for (const auto& [track, list] : result.activity) stretches += list.size();
  Counters counters{result.latency, 2 * stretches <= detail.points, detail.points};
  add_kernel(counters, 1, Time{}, result.latency, result);
  counters.write(trace);
  const Inset inset{
      .process = 2, .of = "", .start = Time{}, .most_slices = detail.slices, .most_points = detail.points};
  draw_roles(trace, recording.roles, inset);
  draw_channels(trace, recording.channels, inset);
}

}  // namespace

void write_timeline(const std::string& file, const std::function<void(traces::Timeline&)>& draw) {
  if (file.ends_with(".vcd")) {
    traces::VcdTimeline trace;
    draw(trace);
    write_whole(file, trace.finish());
    return;
  }
  if (!is_protobuf(file)) {
    Trace trace;
    draw(trace);
    write_whole(file, trace.finish());
    return;
  }
  const std::string temporary = file + ".tmp";
  const auto fail = [&] {
    return std::runtime_error{fmt::format("{}: {}", temporary, std::strerror(errno))};
  };
  std::FILE* out = std::fopen(temporary.c_str(), "wb");
  if (out == nullptr) throw fail();
  bool written = true;
  traces::PerfettoTimeline trace{[&](std::string_view bytes) {
    written = written && std::fwrite(bytes.data(), 1, bytes.size(), out) == bytes.size();
  }};
  draw(trace);
  if (std::fclose(out) != 0 || !written) throw fail();
  std::filesystem::rename(temporary, file);
}

std::string run_timeline(const models::TaskGraph& graph, const sim::RunResult& run) {
  Trace trace;
  draw_run(trace, graph, run, {});
  return trace.finish();
}

void write_run_timeline(const std::string& file, const models::TaskGraph& graph, const sim::RunResult& run,
                        const Detail& detail) {
  write_timeline(file, [&](traces::Timeline& t) { draw_run(t, graph, run, detail); });
}

void write_kernel_timeline(const std::string& file, const std::string& title, const sim::KernelResult& result,
                           const sim::Recording& recording, const Detail& detail) {
  write_timeline(file, [&](traces::Timeline& t) { draw_kernel(t, title, result, recording, detail); });
}

Detail detail_of(const std::string& file, double factor) {
  const double scale =
      factor * (is_protobuf(file) ? 10 : 1);  // a packet takes a fifth of a line's bytes and is loaded faster
  const auto scaled = [&](std::size_t n) {
    return static_cast<std::size_t>(std::max(1000.0, scale * static_cast<double>(n)));
  };
  return {.slices = scaled(Detail{}.slices), .points = scaled(Detail{}.points)};
}

}  // namespace tessera::cli
