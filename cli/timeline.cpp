#include "cli/timeline.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <vector>

namespace tessera::cli {

namespace {

constexpr int kComputeTrack = 1;
constexpr int kOutTracks = 1000, kInTracks = 2000;  // the first track of each direction
// Beyond this many points, utilisation within kernels is left out and only each kernel's mean is drawn.
constexpr std::size_t kMostActivityPoints = 300'000;

/// A quoted, escaped JSON string.
std::string json_string(std::string_view text) { return nlohmann::json(text).dump(); }

/// Trace events, one a line. Times are in microseconds to the nanosecond's thousandth.
class Trace {
 public:
  void name_process(std::size_t process, std::string_view name) {
    event(R"({{"ph":"M","pid":{},"name":"process_name","args":{{"name":{}}}}})", process, json_string(name));
    event(R"({{"ph":"M","pid":{},"name":"process_sort_index","args":{{"sort_index":{}}}}})", process,
          process);
  }
  void name_track(std::size_t process, int track, std::string_view name) {
    event(R"({{"ph":"M","pid":{},"tid":{},"name":"thread_name","args":{{"name":{}}}}})", process, track,
          json_string(name));
    event(R"({{"ph":"M","pid":{},"tid":{},"name":"thread_sort_index","args":{{"sort_index":{}}}}})", process,
          track, track);
  }
  /// `args` is a JSON object's inside.
  void slice(std::size_t process, int track, Time start, Time end, std::string_view name,
             std::string_view category, std::string_view args) {
    event(R"({{"ph":"X","pid":{},"tid":{},"ts":{:.6f},"dur":{:.6f},"name":{},"cat":{},"args":{{{}}}}})",
          process, track, start.us(), (end - start).us(), json_string(name), json_string(category), args);
  }
  void counter(std::size_t process, Time at, std::string_view name, double percent) {
    event(R"({{"ph":"C","pid":{},"ts":{:.6f},"name":{},"args":{{"percent":{:.2f}}}}})", process, at.us(),
          json_string(name), percent);
  }
  std::string finish() {
    return "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n" + fmt::to_string(events_) + "\n]}\n";
  }

 private:
  template <class... Args>
  void event(fmt::format_string<Args...> format, Args&&... args) {
    if (events_.size() > 0) events_.append(std::string_view{",\n"});
    fmt::format_to(std::back_inserter(events_), format, std::forward<Args>(args)...);
  }
  fmt::memory_buffer events_;
};

/// Slices of one track must not overlap: each message takes the first lane that is free when it starts.
class Lanes {
 public:
  int take(Time start, Time end) {
    for (std::size_t lane = 0; lane < free_at_.size(); ++lane) {
      if (free_at_[lane] <= start) {
        free_at_[lane] = end;
        return static_cast<int>(lane);
      }
    }
    free_at_.push_back(end);
    return static_cast<int>(free_at_.size()) - 1;
  }
  int count() const { return static_cast<int>(free_at_.size()); }

 private:
  std::vector<Time> free_at_;
};

std::string phase_name(const models::Task& task) {
  return task.step < 0 ? "prefill" : fmt::format("decode {}", task.step);
}

std::string layer_name(const models::Task& task) {
  return task.layer < 0 ? "" : fmt::format(" layer {}", task.layer);
}

/// Stretches of activity as a step function, back to zero at the end and across gaps.
void add_activity(Trace& trace, std::size_t process, Time offset, const sim::KernelResult& result) {
  for (const auto& [track, stretches] : result.activity) {
    Time last;
    for (const sim::Activity& a : stretches) {
      if (last < a.start && last > Time{}) trace.counter(process, offset + last, track, 0);
      trace.counter(process, offset + a.start, track, a.share * 100);
      last = a.end;
    }
    if (!stretches.empty()) trace.counter(process, offset + last, track, 0);
  }
}

std::size_t activity_points(const sim::RunResult& run) {
  std::vector<std::size_t> of_kernel;
  for (const sim::KernelUse& kernel : run.kernels) {
    std::size_t points = 0;
    for (const auto& [track, stretches] : kernel.result.activity) points += stretches.size() + 1;
    of_kernel.push_back(points);
  }
  std::size_t points = 0;
  for (const sim::TaskTiming& timing : run.tasks) {
    if (timing.kernel < of_kernel.size()) points += of_kernel[timing.kernel];
  }
  return points;
}

/// The kernel's mean use of `name` as a counter that falls to zero when it ends.
void add_mean(Trace& trace, std::size_t process, const sim::TaskTiming& timing,
              const sim::KernelResult& kernel, const char* name, const char* label) {
  const auto share = kernel.utilization.find(name);
  if (share == kernel.utilization.end()) return;
  trace.counter(process, timing.start, label, share->second * 100);
  trace.counter(process, timing.end, label, 0);
}

}  // namespace

std::string run_timeline(const models::TaskGraph& graph, const sim::RunResult& run) {
  Trace trace;
  const bool detailed = activity_points(run) <= kMostActivityPoints;
  std::vector<models::TaskId> order(graph.tasks.size());
  for (models::TaskId t = 0; t < order.size(); ++t) order[t] = t;
  std::stable_sort(order.begin(), order.end(), [&](models::TaskId a, models::TaskId b) {
    return run.tasks[a].start < run.tasks[b].start;
  });

  std::vector<Lanes> out(graph.nodes.size()), in(graph.nodes.size());
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    trace.name_process(n + 1, graph.nodes[n].name);
    trace.name_track(n + 1, kComputeTrack, "compute stream");
  }
  for (const models::TaskId t : order) {
    const models::Task& task = graph.tasks[t];
    const sim::TaskTiming& timing = run.tasks[t];
    const std::size_t process = task.node + 1;
    const std::string where = fmt::format(R"("phase":"{}","task":{})", phase_name(task), t);
    if (const auto* compute = std::get_if<models::Compute>(&task.work)) {
      const sim::KernelResult& kernel = run.kernels[timing.kernel].result;
      trace.slice(
          process, kComputeTrack, timing.start, timing.end,
          fmt::format("{}{} {}", models::name_of(task.stage), layer_name(task), models::kind_of(compute->op)),
          models::name_of(task.stage),
          fmt::format(R"({},"operator":{},"bottleneck":{})", where,
                      json_string(run.kernels[timing.kernel].signature), json_string(kernel.bottleneck)));
      if (detailed && !kernel.activity.empty()) {
        add_activity(trace, process, timing.start, kernel);
      } else {
        add_mean(trace, process, timing, kernel, "hbm", "HBM");
      }
      add_mean(trace, process, timing, kernel, "tensor", "tensor cores (mean)");
      add_mean(trace, process, timing, kernel, "l2", "L2 (mean)");
      add_mean(trace, process, timing, kernel, "mufu", "MUFU (mean)");
      continue;
    }
    const auto& transfer = std::get<models::Transfer>(task.work);
    const auto slice = [&](std::size_t node, Lanes& lanes, int first, const char* preposition,
                           std::size_t peer) {
      trace.slice(node + 1, first + lanes.take(timing.start, timing.end), timing.start, timing.end,
                  fmt::format("{}{} {} {}", models::name_of(task.stage), layer_name(task), preposition,
                              graph.nodes[peer].name),
                  models::name_of(task.stage), fmt::format(R"({},"bytes":{})", where, transfer.bytes));
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
  return trace.finish();
}

std::string kernel_timeline(const std::string& title, const sim::KernelResult& result) {
  Trace trace;
  trace.name_process(1, "GPU");
  trace.name_track(1, kComputeTrack, "compute stream");
  trace.slice(1, kComputeTrack, Time{}, result.latency, title, "kernel",
              fmt::format(R"("bottleneck":{},"execution_us":{})", json_string(result.bottleneck),
                          result.execution.us()));
  add_activity(trace, 1, Time{}, result);
  return trace.finish();
}

}  // namespace tessera::cli
