#include "cli/analysis.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <nlohmann/json.hpp>

#include "cli/table.hpp"
#include "cli/timeline.hpp"
#include "cli/trace_events.hpp"

using namespace tessera;
using namespace tessera::cli;
using Catch::Matchers::WithinAbs;
using models::Stage;

namespace {

// A tenth of every kernel is launch. Two nodes. comp0: qkv [1,11), then waits; sends [12,20) to attn;
// attention [21,41); returns [45,50); o_proj [52,60). An idle side kernel on comp0, [13,18), hides part of
// the send.
struct Example {
  models::TaskGraph graph;
  sim::RunResult run;

  models::TaskId add(std::uint32_t node, Stage stage, bool kernel, std::vector<models::TaskId> after,
                     int start, int end, int step = -1, int layer = 0) {
    models::Task task{.node = node, .layer = layer, .step = step, .stage = stage, .after = std::move(after)};
    if (kernel) {
      task.work = models::Compute{.op = models::Copy{.bytes = 1}};
    } else {
      task.work = models::Transfer{.destination = 1 - node, .bytes = 1000};
    }
    graph.tasks.push_back(task);
    run.tasks.push_back({Time::microseconds(start), Time::microseconds(end), kernel ? 0 : UINT32_MAX});
    run.latency = max(run.latency, Time::microseconds(end));
    return static_cast<models::TaskId>(graph.tasks.size() - 1);
  }

  Example() {
    graph.nodes = {{"comp0", models::NodeKind::comp}, {"attn0,0", models::NodeKind::attn}};
    run.kernels.push_back({.signature = "copy",
                           .result = {.latency = Time::microseconds(10),
                                      .execution = Time::microseconds(9),
                                      .bottleneck = "HBM bandwidth"}});
    const auto qkv = add(0, Stage::qkv, true, {}, 1, 11);
    const auto send = add(0, Stage::send, false, {qkv}, 12, 20);
    add(0, Stage::mlp, true, {}, 13, 18);
    const auto attention = add(1, Stage::attention, true, {send}, 21, 41);
    const auto returns = add(1, Stage::returns, false, {attention}, 45, 50);
    add(0, Stage::o_proj, true, {returns}, 52, 60);
  }
};

double critical(const Phase& phase, Stage stage) {
  return phase.stages[static_cast<std::size_t>(stage)].critical_us;
}
double elapsed(const Phase& phase, Stage stage) {
  return phase.stages[static_cast<std::size_t>(stage)].elapsed_us;
}

}  // namespace

TEST_CASE("the critical path covers the latency without gap or overlap") {
  const Example e;
  const std::vector<PathSpan> path = critical_path(e.graph, e.run, 5, Time{});
  REQUIRE(path.front().begin == Time{});
  REQUIRE(path.back().end == Time::microseconds(60));
  for (std::size_t i = 1; i < path.size(); ++i) REQUIRE(path[i].begin == path[i - 1].end);
  // The side kernel ended at 18, the message it overlaps at 20: it is not on the path.
  for (const PathSpan& span : path) REQUIRE(span.task != 2);
}

TEST_CASE("each span goes to its stage, waiting for a launch apart") {
  const Example e;
  const Analysis a = analyse(e.graph, e.run, FabricSpec{.node_gb_per_s = 1});
  REQUIRE(a.prefill.steps == 1);
  REQUIRE_FALSE(a.decode.present());
  REQUIRE_THAT(a.prefill.latency_us, WithinAbs(60, 1e-9));
  REQUIRE_THAT(critical(a.prefill, Stage::qkv), WithinAbs(9, 1e-9));
  REQUIRE_THAT(critical(a.prefill, Stage::send),
               WithinAbs(9, 1e-9));  // 1 before the first byte, 8 on the wire
  REQUIRE_THAT(critical(a.prefill, Stage::attention), WithinAbs(18, 1e-9));
  REQUIRE_THAT(critical(a.prefill, Stage::returns), WithinAbs(9, 1e-9));  // 4 + 5
  REQUIRE_THAT(critical(a.prefill, Stage::o_proj), WithinAbs(7.2, 1e-9));
  REQUIRE_THAT(critical(a.prefill, Stage::mlp), WithinAbs(0, 1e-9));
  REQUIRE_THAT(elapsed(a.prefill, Stage::mlp), WithinAbs(5, 1e-9));
  REQUIRE_THAT(a.prefill.launch_us, WithinAbs((1 + 1) + (1 + 2) + (2 + 0.8), 1e-9));
  REQUIRE_THAT(a.prefill.exposed_communication_us, WithinAbs(18, 1e-9));
  REQUIRE_THAT(a.prefill.network_only_us, WithinAbs(8 - 5 + 5, 1e-9));  // [12,13), [18,20), [45,50)
}

TEST_CASE("the bottleneck is what holds the largest share of the critical path") {
  const Example e;
  FabricSpec fabric{
      .node_gb_per_s = 0.2, .link_latency_ns = 500, .switch_latency_ns = 0, .endpoint_latency_ns = 1000};
  const Analysis a = analyse(e.graph, e.run, fabric);
  REQUIRE(a.bottleneck == "HBM bandwidth");
  double sum = 0;
  for (const LimitShare& limit : a.limits) sum += limit.share;
  REQUIRE_THAT(sum, WithinAbs(1, 1e-12));
  const auto share = [](const Analysis& of, const std::string& name) {
    for (const LimitShare& limit : of.limits) {
      if (limit.name == name) return limit.share;
    }
    return 0.0;
  };
  REQUIRE_THAT(share(a, "interconnect latency"),
               WithinAbs(2 * 3.0 / 60, 1e-12));  // two messages of 2 (1 + 0.5) us
  REQUIRE_THAT(share(a, "interconnect bandwidth"), WithinAbs(12.0 / 60, 1e-12));
  REQUIRE_THAT(share(a, "launch"), WithinAbs(7.8 / 60, 1e-12));
  fabric.nodes_per_switch = 1;  // through the core: two more links, two more switches
  fabric.core_latency_ns = 2000;
  REQUIRE_THAT(share(analyse(e.graph, e.run, fabric), "interconnect latency"),
               WithinAbs(2 * 6.0 / 60, 1e-12));
  fabric.node_gb_per_s = 1000;
  fabric.message_overhead_us = 1;
  REQUIRE_THAT(share(analyse(e.graph, e.run, fabric), "interconnect message rate"),
               WithinAbs(4.0 / 60, 1e-12));
}

TEST_CASE("a decode step counts from where the step before it ended") {
  Example e;
  const auto step0 = e.add(0, Stage::qkv, true, {5}, 61, 70, 0, 0);
  const auto step1 = e.add(0, Stage::qkv, true, {step0}, 71, 90, 1, 0);
  e.add(0, Stage::head, true, {step1}, 91, 100, 1, -1);
  const Analysis a = analyse(e.graph, e.run, FabricSpec{});
  REQUIRE(a.decode.steps == 2);
  REQUIRE_THAT(a.prefill.latency_us + a.decode.latency_us, WithinAbs(100, 1e-9));
  REQUIRE_THAT(critical(a.decode, Stage::qkv), WithinAbs(0.9 * (9 + 19), 1e-9));
  REQUIRE_THAT(a.decode.launch_us, WithinAbs(3 + 0.1 * (9 + 19 + 9), 1e-9));
  REQUIRE(a.layers.size() == 2);  // outside the layers, and layer 0
  REQUIRE_THAT(a.layers[1].decode_us, WithinAbs((10 + 20) / 2.0, 1e-9));
  REQUIRE_THAT(a.layers[0].decode_us, WithinAbs(10 / 2.0, 1e-9));
  REQUIRE_THAT(a.layers[1].prefill_us, WithinAbs(60, 1e-9));
}

TEST_CASE("slices of one track of a timeline do not overlap, and both ends of a message are drawn") {
  Example e;
  e.add(0, Stage::send, false, {0}, 12, 25);  // overlaps the other send
  const nlohmann::json trace = nlohmann::json::parse(run_timeline(e.graph, e.run));
  std::map<std::pair<int, int>, std::vector<std::pair<double, double>>> tracks;
  std::map<std::pair<int, int>, std::string> names;
  int messages = 0;
  for (const auto& event : trace.at("traceEvents")) {
    if (event.at("ph") == "M" && event.at("name") == "thread_name") {
      names[{event.at("pid"), event.at("tid")}] = event.at("args").at("name");
    }
    if (event.at("ph") != "X") continue;
    tracks[{event.at("pid"), event.at("tid")}].emplace_back(event.at("ts"), event.at("dur"));
    messages += event.at("args").contains("bytes");
  }
  REQUIRE(messages == 2 * 3);
  for (auto& [track, slices] : tracks) {
    REQUIRE(names.contains(track));
    std::sort(slices.begin(), slices.end());
    for (std::size_t i = 1; i < slices.size(); ++i)
      REQUIRE(slices[i - 1].first + slices[i - 1].second <= slices[i].first + 1e-6);
  }
}

TEST_CASE("counters that take too many points become means, and keep what they add up to") {
  // 10 tracks that change every microsecond: 10,000 points.
  constexpr int kTracks = 10, kSteps = 1000, kMostPoints = 3000;
  Counters counters{Time::microseconds(kSteps), false, kMostPoints};
  std::vector<double> busy(kTracks);
  for (int t = 0; t < kTracks; ++t) {
    for (int s = 0; s < kSteps; ++s) {
      const double share = (t * 7 + s * 13) % 101 / 100.0;
      counters.add(1, fmt::format("{}", t), Time::microseconds(s), Time::microseconds(s + 1), share);
      busy[static_cast<std::size_t>(t)] += share;
    }
  }
  Trace trace;
  counters.write(trace);
  const nlohmann::json json = nlohmann::json::parse(trace.finish());
  REQUIRE(json.at("otherData").at("counters").get<std::string>().starts_with("means over "));
  REQUIRE(json.at("traceEvents").size() <= kMostPoints);
  REQUIRE(json.at("traceEvents").size() > kMostPoints / 4);
  struct Track {
    double at = 0, percent = 0, busy = 0;
  };
  std::map<std::string, Track> tracks;
  for (const auto& event : json.at("traceEvents")) {
    Track& track = tracks[event.at("name")];
    const double at = event.at("ts"), percent = event.at("args").at("percent");
    REQUIRE(at >= track.at);
    REQUIRE(percent >= 0);
    REQUIRE(percent <= 100);
    track.busy += (at - track.at) * track.percent / 100;
    track.at = at;
    track.percent = percent;
  }
  REQUIRE(tracks.size() == kTracks);
  for (int t = 0; t < kTracks; ++t) {
    const Track& track = tracks.at(fmt::format("{}", t));
    REQUIRE(track.percent == 0);
    REQUIRE_THAT(track.busy, WithinAbs(busy[static_cast<std::size_t>(t)], 1));
  }
}

TEST_CASE("a timeline of too many decode steps draws the first ones and says so") {
  Example e;
  for (int step = 0; step < 1000; ++step) {
    for (int n = 0; n < 250; ++n) {
      const int at = 100 + step * 250 + n;
      e.add(0, Stage::send, false, {}, at, at + 1, step);
    }
  }
  const std::string trace = run_timeline(e.graph, e.run);  // too long to parse in a test
  // 8 slices of the prefill, 500 of each step, 400,000 in all.
  REQUIRE(trace.find(R"("slices":"prefill and the first 799 of 1000 decode steps")") != std::string::npos);
  int slices = 0;
  for (std::size_t at = trace.find(R"("ph":"X")"); at != std::string::npos;
       at = trace.find(R"("ph":"X")", at + 1))
    ++slices;
  REQUIRE(slices == 8 + 799 * 500);
}

TEST_CASE("a kernel's activity is drawn at its own length, and work booked ahead where it is done") {
  Example e;
  sim::KernelResult& kernel = e.run.kernels[0].result;
  const auto us = [](int n) { return Time::microseconds(n); };
  kernel.activity["GPC 0"] = {{us(1), us(5), 1.5}, {us(5), us(10), 0.5}};
  kernel.utilization["l2"] = 0.25;
  const nlohmann::json trace = nlohmann::json::parse(run_timeline(e.graph, e.run));
  std::map<std::string, std::vector<std::pair<double, double>>>
      points;  // of attn0,0: [21, 41), twice as long
  for (const auto& event : trace.at("traceEvents")) {
    if (event.at("ph") == "C" && event.at("pid") == 2)
      points[event.at("name")].emplace_back(event.at("ts"), event.at("args").at("percent"));
  }
  using Points = std::vector<std::pair<double, double>>;
  REQUIRE(points["GPC 0 tensor cores"] == Points{{0, 0}, {23, 100}, {31, 90}, {41, 0}});
  REQUIRE(points["L2"] == Points{{0, 0}, {23, 25}, {41, 0}});  // not during the launch
  REQUIRE(trace.at("otherData").at("counters") == "as simulated");
}

TEST_CASE("numbers are printed at a width people can read") {
  REQUIRE(duration_text(0) == "0");
  REQUIRE(duration_text(0.0125) == "12.5 ns");
  REQUIRE(duration_text(999.999) == "1.00 ms");
  REQUIRE(duration_text(1234) == "1.23 ms");
  REQUIRE(duration_text(5e9) == "5000 s");
  REQUIRE(bytes_text(512) == "512 B");
  REQUIRE(bytes_text(1536) == "1.50 KiB");
  REQUIRE(bytes_text(141.0 * 1024 * 1024 * 1024) == "141 GiB");
  REQUIRE(count_text(1234567) == "1,234,567");
  REQUIRE(count_text(123) == "123");
  REQUIRE(percent_text(0.1234) == "12.3 %");
  Table table{{"name", "value"}};
  table.add({"a", "1"});
  table.add({"long name", "23"});
  REQUIRE(table.text() == "  name       value\n  ----------------\n  a              1\n  long name     23\n");
}
