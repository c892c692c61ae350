// Sampled kernels against exact ones.

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "configs/reader/hardware.hpp"
#include "kernels/block_sparse/torch_kernels.hpp"
#include "sim/core/module.hpp"
#include "sim/gpu/kernel_run.hpp"

namespace tessera::sim {
namespace {

using nlohmann::json;

const GpuSpec& h200() {
  static const GpuSpec spec =
      config::read_gpu(std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/hardware/h200_sxm.yaml");
  return spec;
}

/// What `simulate` gives, called in a process of its own, as SystemC needs.
template <class Simulate>
json in_a_process(Simulate simulate) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t pid = fork();
  if (pid == 0) {
    json j;
    try {
      const KernelResult r = simulate();
      j = {{"latency", r.latency.fs},    {"clock", r.clock_mhz},        {"energy", r.energy_j},
           {"ci95", r.ci95_percent},     {"passed", r.passed.fs},       {"bottleneck", r.bottleneck},
           {"statistics", r.statistics}, {"l2_bytes", r.l2_bytes},      {"utilization", r.utilization},
           {"operations", r.operations}, {"hbm_read", r.hbm_read_bytes}};
      for (const Time execution : r.executions) j["executions"].push_back(execution.fs);
      json& activity = j["activity"];
      for (const auto& [track, list] : r.activity) {
        for (const Activity& a : list) activity[track].push_back({a.start.fs, a.end.fs, a.share});
      }
      j["events"] = r.events;
    } catch (const std::exception& e) {
      j["error"] = e.what();
    }
    const std::string text = j.dump();
    const ssize_t n = write(ends[1], text.data(), text.size());
    _exit(n == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  close(ends[1]);
  std::string text;
  char chunk[4096];
  for (ssize_t n = 0; (n = read(ends[0], chunk, sizeof chunk)) > 0;)
    text.append(chunk, static_cast<std::size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(pid, &status, 0);
  REQUIRE(status == 0);
  json j = json::parse(text);
  INFO(j.value("error", ""));
  REQUIRE_FALSE(j.contains("error"));
  return j;
}

json simulated(const models::Operator& op, const KernelOptions& options, Time lookahead = Time::never()) {
  return in_a_process([&] {
    set_lookahead_limit(lookahead);
    return simulate_kernel(h200(), op, options);
  });
}

double percent_off(const json& sampled, const json& exact, const char* key) {
  return 100 * (sampled[key].get<double>() / exact[key].get<double>() - 1);
}

TEST_CASE("short kernels are simulated whole: the same, bit for bit, as with exact") {
  const models::Operator ops[] = {
      models::Gemm{384, 512, 4096}, models::Gemm{2048, 2048, 1024},
      models::Attention{
          .q_rows = 1024, .kv_rows = 1024, .heads = 8, .kv_heads = 2, .head_dim = 128, .causal = true},
      models::AttentionDecode{.batch = 4, .context = 4096, .heads = 8, .kv_heads = 2, .head_dim = 128},
      models::Norm{200, 1024}};
  for (const models::Operator& op : ops) {
    INFO(models::signature_of(op));
    const json sampled = simulated(op, {});
    CHECK(sampled["passed"] == 0);
    CHECK(sampled["ci95"] == 0.0);
    CHECK(sampled == simulated(op, {.exact = true}));
  }
}

void check_sampled(const models::Operator& op) {
  INFO(models::signature_of(op));
  const json exact = simulated(op, {.exact = true}), sampled = simulated(op, {});
  CHECK(exact["passed"] == 0);
  CHECK(exact["ci95"] == 0.0);
  CHECK(sampled["passed"].get<double>() > 0.3 * sampled["latency"].get<double>());
  CHECK(sampled["events"].get<double>() < 0.7 * exact["events"].get<double>());

  const double off = percent_off(sampled, exact, "latency"), interval = sampled["ci95"];
  CAPTURE(off, interval);
  CHECK(std::abs(off) <= 1);
  CHECK(interval < 4);
  CHECK(std::abs(off) <= interval);
  CHECK(std::abs(percent_off(sampled, exact, "clock")) < 1);
  CHECK(std::abs(percent_off(sampled, exact, "energy")) < 2);
  CHECK(std::abs(percent_off(sampled, exact, "l2_bytes")) < 1);
  for (const char* what : {"sm.tensor_flops", "sm.mufu_ops", "sm.operations_issued", "sm.shared_bytes",
                           "sm.load_bytes_received", "sm.store_bytes", "l2.read_sectors"}) {
    INFO(what);
    const double all = exact["statistics"][what];
    CHECK(sampled["statistics"][what].get<double>() == Catch::Approx(all).epsilon(0.01));
  }
}

TEST_CASE("a sampled GEMM: one long loop in each CTA") { check_sampled(models::Gemm{2048, 4096, 32768}); }

TEST_CASE("a sampled GEMM: many tiles of a cluster, the last wave not full") {
  check_sampled(models::Gemm{8192, 8192, 6144});
}

TEST_CASE("a sampled causal prefill: loops of all lengths, from a counter") {
  check_sampled(models::Attention{
      .q_rows = 16384, .kv_rows = 16384, .heads = 8, .kv_heads = 2, .head_dim = 128, .causal = true});
}

TEST_CASE("a sampled prefill without a mask") {
  check_sampled(
      models::Attention{.q_rows = 16000, .kv_rows = 16000, .heads = 8, .kv_heads = 8, .head_dim = 128});
}

TEST_CASE("what is passed over of a kernel ends with it, and nothing of the next one is") {
  // The second one's last stretch goes on until it ends, and is ordered to be longer.
  const auto run = [](bool exact) {
    return in_a_process([&] {
      std::vector<std::unique_ptr<tile::Kernel>> launches;
      launches.push_back(
          std::make_unique<kernels::RowMoveKernel>(kernels::RowMove{.name = "rows by index",
                                                                    .rows = 3U << 17U,
                                                                    .row_bytes = 512,
                                                                    .element_bytes = 4,
                                                                    .table_rows = 1U << 17U,
                                                                    .indices = std::uint64_t{1} << 30U,
                                                                    .in = std::uint64_t{2} << 30U,
                                                                    .out = std::uint64_t{8} << 30U},
                                                   h200()));
      launches.push_back(std::make_unique<kernels::StridedTopKKernel>(
          kernels::StridedTopK{.slices = 1U << 17U,
                               .slice = 31,
                               .k = 11,
                               .pitch = 1U << 19U,
                               .in = std::uint64_t{1} << 30U,
                               .values = std::uint64_t{5} << 30U,
                               .indices = std::uint64_t{8} << 30U},
          h200()));
      launches.push_back(std::make_unique<kernels::CastProductKernel>(
          kernels::CastProduct{.name = "rows by factors",
                               .rows = 1U << 17U,
                               .width = 128,
                               .in = std::uint64_t{16} << 30U,
                               .factors = std::uint64_t{20} << 30U,
                               .out = std::uint64_t{24} << 30U},
          h200()));
      return simulate_launches(h200(), std::move(launches), {}, 1, {.exact = exact});
    });
  };
  const json sampled = run(false), exact = run(true);
  REQUIRE(sampled["passed"] > 0);
  CHECK(sampled["l2_bytes"].get<double>() == Catch::Approx{exact["l2_bytes"].get<double>()}.epsilon(0.01));
  // The second kernel's loads hit, the others' do not.
  CHECK(sampled["hbm_read"].get<double>() == Catch::Approx{exact["hbm_read"].get<double>()}.epsilon(0.15));
  for (const std::size_t k : {0, 1, 2}) {
    INFO("kernel " << k);
    CHECK(sampled["executions"][k].get<double>() ==
          Catch::Approx{exact["executions"][k].get<double>()}.epsilon(0.05));
  }
}

TEST_CASE("sampling does not depend on threads or lookahead") {
  const models::Attention op{
      .q_rows = 16384, .kv_rows = 16384, .heads = 8, .kv_heads = 2, .head_dim = 128, .causal = true};
  const json one = simulated(op, {});
  CHECK(one["passed"].get<double>() > 0);
  CHECK(simulated(op, {.threads = 2}) == one);
  CHECK(simulated(op, {}, Time::nanoseconds(11)) == one);
}

}  // namespace
}  // namespace tessera::sim
