#include "validate/comparison.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <csignal>
#include <stdexcept>

#include "validate/replay.hpp"
#include "validate/report.hpp"
#include "validate/sample.hpp"
#include "validate/shapes.hpp"
#include "validate/statistics.hpp"

namespace tessera::validate {
namespace {

using models::Dtype;

Measurement measured(std::int64_t m, double us, std::int64_t n = 64, std::int64_t k = 64) {
  Measurement row = gemm_row(m, n, k, Dtype::bf16);
  row.file = "f.csv";
  row.line = static_cast<int>(m);
  row.measured_us = us;
  return row;
}

GpuSpec a_gpu() {
  GpuSpec gpu;
  gpu.name = "a_gpu";
  gpu.gpc_sms = {16, 16};
  return gpu;
}

/// A GEMM takes as many microseconds as it has rows, half of them executing.
sim::KernelResult pretend(const sim::KernelJob& job) {
  const auto& gemm = std::get<models::Gemm>(job.op);
  if (gemm.m == 13) throw std::invalid_argument{"13 is no size"};
  if (gemm.m == 14) raise(SIGKILL);
  sim::KernelResult r;
  r.latency = Time::nanoseconds(gemm.m * 1000);
  r.execution = Time::nanoseconds(gemm.m * 500);
  r.flops = models::flops_of(job.op);
  r.events = 1;
  r.bottleneck = "latency";
  return r;
}

TEST_CASE("errors are summed up as defined") {
  Comparison comparison;
  for (const double predicted : {90.0, 120.0, 100.0, 150.0})
    comparison.rows.push_back({measured(1, 100), predicted, {}});
  std::vector<const Compared*> rows;
  for (const Compared& c : comparison.rows) rows.push_back(&c);
  const Errors e = errors_of(rows);  // -10, 20, 0, 50
  CHECK(e.count == 4);
  CHECK(e.mape_percent == Catch::Approx(20));
  CHECK(e.bias_percent == Catch::Approx(15));
  CHECK(e.median_ape_percent == Catch::Approx(15));
  CHECK(e.p90_ape_percent == Catch::Approx(20 + 0.7 * 30));
  CHECK(e.max_ape_percent == Catch::Approx(50));
  const auto worst = worst_of(rows, 2);
  REQUIRE(worst.size() == 2);
  CHECK(worst[0]->predicted_us == 150);
  CHECK(worst[1]->predicted_us == 120);
  CHECK(errors_of({}).count == 0);
}

TEST_CASE("groups hold the rows that are quoted") {
  Comparison comparison;
  comparison.rows.push_back({measured(1, 1, 1024, 1024), 1, {}});
  comparison.rows.push_back({measured(1, 1, 1024, 1023), 1, {}});
  const AttentionShape shape{.heads = 1, .kv_heads = 1, .head_dim = 64};
  comparison.rows.push_back({prefill_row(shape, 1024, 0, 3, Dtype::bf16), 1, {}});
  comparison.rows.push_back({prefill_row(shape, 1023, 0, 3, Dtype::bf16), 1, {}});
  const auto groups = quoted_groups(comparison);
  REQUIRE(groups.size() == 2);
  CHECK(groups[0].name == "gemm_large");
  CHECK(groups[0].rows == std::vector<const Compared*>{&comparison.rows[0]});
  CHECK(groups[1].rows == std::vector<const Compared*>{&comparison.rows[2]});
  REQUIRE(by_kind(comparison).size() == 2);
  CHECK(by_kind(comparison)[0].name == "attention_prefill");
}

TEST_CASE("after a replay, what fits in the L2 together is warm") {
  constexpr std::int64_t kL2 = 1 << 20;
  const models::Operator small = models::Gemm{.m = 128, .n = 128, .k = 128};
  CHECK(warm_after_replay(small, {}, kL2) == std::vector<std::uint32_t>{0, 1, 2});
  CHECK(warm_after_replay(small, {}, 3 * 128 * 128 * 2) == std::vector<std::uint32_t>{0, 1, 2});
  CHECK(warm_after_replay(small, {}, 3 * 128 * 128 * 2 - 1).empty());
  // Many copies of the weights push each other out, but not what the runs share.
  const Conditions in_turn{.weights_in_turn = 100 * 128 * 128 * 2};
  CHECK(warm_after_replay(small, in_turn, kL2) == std::vector<std::uint32_t>{0, 2});
}

TEST_CASE("replays find again no more than the share of the L2 that is reused, weights in turn included") {
  GpuSpec gpu = a_gpu();
  gpu.l2.bytes = 64 << 20;
  Measurement row = measured(64, 1);
  row.op = models::Gemm{.m = 1, .n = 1024, .k = 5120};  // 10 MiB of weights
  row.conditions.weights_in_turn = std::int64_t{5} * 10 << 20;
  gpu.l2.reused_share = 1;
  CHECK(options_of(row, gpu).warm_operands == std::vector<std::uint32_t>{0, 1, 2});
  gpu.l2.reused_share = 0.67;
  CHECK(options_of(row, gpu).warm_operands == std::vector<std::uint32_t>{0, 2});
}

TEST_CASE("a call launches the kernel once for each copy of its weights") {
  GpuSpec gpu = a_gpu();
  Measurement row = measured(64, 1);
  row.op = models::Gemm{.m = 64, .n = 1024, .k = 1024};  // 2 MiB of weights
  row.conditions.replays_before = 3;
  row.conditions.replays_timed = 6;
  CHECK(options_of(row, gpu).launches_counted == 6);
  row.conditions.weights_in_turn = 5 * 2 << 20;
  gpu.l2.bytes = 64 << 20;
  CHECK(options_of(row, gpu).launches_before == 15);
  CHECK(options_of(row, gpu).launches_counted == 30);
  gpu.l2.bytes = 3 << 20;  // two copies do
  CHECK(options_of(row, gpu).launches_counted == 12);
}

TEST_CASE("what is timed begins before the first launch, and goes no faster than the host") {
  GpuSpec gpu = a_gpu();
  gpu.launch.host_graph_us = 4;
  gpu.launch.host_launch_us = 2.5;
  Measurement row = measured(64, 1);
  CHECK(replayed_us(row, 1, gpu) == 1);  // without end
  row.conditions.replays_timed = 10;
  CHECK(replayed_us(row, 20, gpu) == Catch::Approx(20.65));
  CHECK(replayed_us(row, 1, gpu) == Catch::Approx(4.65));
  row.conditions.calls_in_replay = 5;  // each a fifth of what is timed
  CHECK(launches_in_replay(row, gpu.l2.bytes) == 5);
  CHECK(replayed_us(row, 20, gpu) == Catch::Approx(20.13));
  CHECK(replayed_us(row, 0.5, gpu) == Catch::Approx(0.93));
  row.conditions.graph = false;
  CHECK(replayed_us(row, 1, gpu) == 1);
}

TEST_CASE("a row that states its L2 is taken at its word") {
  GpuSpec gpu = a_gpu();
  Measurement row = measured(64, 1);
  row.conditions.explicit_l2 = true;
  row.conditions.warm = false;
  row.conditions.graph = false;
  CHECK(options_of(row, gpu).warm_operands.empty());
  CHECK_FALSE(options_of(row, gpu).graph);
  row.conditions.warm = true;
  CHECK(options_of(row, gpu).warm_operands.size() == 3);
}

TEST_CASE("long rows can be left out, and are counted") {
  Measurements all;
  for (const double us : {1.0, 2000.0, 2000.1, 9000.0}) all.rows.push_back(measured(8, us));
  leave_out_longer(all, 2000);
  CHECK(all.rows.size() == 2);
  REQUIRE(all.skipped.size() == 1);
  CHECK(all.skipped[0].count == 2);
  CHECK(all.skipped[0].reason == "longer than 2 ms");
}

TEST_CASE("a sample depends on the seed and the kind's own rows only") {
  std::vector<Measurement> gemms;
  for (int i = 1; i <= 100; ++i) gemms.push_back(measured(i, 1));
  const auto sampled = [](std::vector<Measurement> rows, std::uint64_t seed) {
    sample(rows, 10, seed);
    std::vector<int> lines;
    for (const Measurement& row : rows) {
      if (row.kind == "gemm") lines.push_back(row.line);
    }
    return lines;
  };
  const std::vector<int> first = sampled(gemms, 1);
  CHECK(first.size() == 10);
  CHECK(std::is_sorted(first.begin(), first.end()));
  CHECK(sampled(gemms, 1) == first);
  CHECK(sampled(gemms, 2) != first);
  std::vector<Measurement> mixed = gemms;
  for (int i = 0; i < 50; ++i)
    mixed.insert(mixed.begin(), activation_row(1, 1, models::ActivationKind::gelu, Dtype::bf16));
  CHECK(sampled(mixed, 1) == first);
  std::vector<Measurement> few{gemms[0]};
  sample(few, 10, 1);
  CHECK(few.size() == 1);
}

TEST_CASE("rows are compared in order, each distinct kernel simulated once, at any number of workers") {
  const GpuSpec gpu = a_gpu();
  const auto run = [&](int processes) {
    Measurements all;
    for (std::int64_t i = 0; i < 1000; ++i) all.rows.push_back(measured(20 + i % 200, 100));
    all.rows[7].conditions.timing = Timing::device;
    return compare(std::move(all), gpu, {.processes = processes, .simulate = pretend});
  };
  const Comparison one = run(1), four = run(4);
  REQUIRE(one.rows.size() == 1000);
  CHECK(one.simulated == 200);
  CHECK(one.events == 200);
  CHECK(one.rows[3].predicted_us == 23);
  CHECK(one.rows[7].predicted_us == 13.5);  // the kernel's own time
  CHECK(to_json(one, gpu, "cycle", 0) == to_json(four, gpu, "cycle", 0));
}

TEST_CASE("what no kernel supports is left out and counted, what breaks is told") {
  const GpuSpec gpu = a_gpu();
  Measurements all;
  for (const std::int64_t m : {12, 13, 14, 13, 15}) all.rows.push_back(measured(m, 10));
  all.skip("g.csv", "moe", "not yet");
  const Comparison c = compare(std::move(all), gpu, {.processes = 2, .simulate = pretend});
  REQUIRE(c.rows.size() == 2);
  CHECK(c.rows[1].row.line == 15);
  REQUIRE(c.skipped.size() == 2);
  CHECK((c.skipped[1].count == 2 && c.skipped[1].reason == "13 is no size"));
  REQUIRE(c.failed.size() == 1);
  CHECK(c.failed[0].row.line == 14);
  CHECK(c.failed[0].reason.find("died of signal 9") != std::string::npos);
}

TEST_CASE("the page is whole, and names cannot break out of it") {
  const GpuSpec gpu = a_gpu();
  Measurements all;
  all.rows.push_back(measured(20, 10));
  all.rows[0].file = "</script><script>alert(1)</script>.csv";
  const Comparison c = compare(std::move(all), gpu, {.processes = 1, .simulate = pretend});
  const std::string html = to_html(c, gpu, "/* the library */");
  CHECK(html.find("/* the library */") != std::string::npos);
  CHECK(html.find("alert(1)</script>") == std::string::npos);
  CHECK(html.find("src=") == std::string::npos);
  CHECK(html.find("href=") == std::string::npos);
  for (const char* id : {"agreement", "error", "roofline"})
    CHECK(html.find(std::string{"<canvas id=\""} + id) != std::string::npos);
}

}  // namespace
}  // namespace tessera::validate
