#include "sim/gpu/kernel_run.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <sstream>

#include "configs/reader/hardware.hpp"
#include "sim/core/module.hpp"

namespace tessera::sim {
namespace {

GpuSpec gpu(const char* name) {
  return config::read_gpu(std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/hardware" /
                          (std::string{name} + ".yaml"));
}

/// Every number of a result, exactly.
std::string text_of(const KernelResult& r) {
  std::ostringstream out;
  out.precision(17);
  out << r.latency.fs << ' ' << r.execution.fs << ' ' << r.clock_mhz << ' ' << r.energy_j << ' '
      << r.bottleneck << '\n';
  for (const auto& [name, value] : r.statistics) out << name << ' ' << value << '\n';
  for (const auto& [name, value] : r.utilization) out << name << ' ' << value << '\n';
  return out.str();
}

std::string in_child(const GpuSpec& spec, const models::Operator& op, Time lookahead,
                     const KernelOptions& options = {}) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t pid = fork();
  if (pid == 0) {
    set_lookahead_limit(lookahead);
    std::string text;
    try {
      text = text_of(simulate_kernel(spec, op, options));
    } catch (const std::exception& e) {
      text = e.what();
    }
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
  return text;
}

TEST_CASE("results are identical for any lookahead down to one cycle, and from run to run") {
  const GpuSpec h200 = gpu("h200_sxm");
  const models::Operator ops[] = {
      models::Gemm{384, 512, 320}, models::Gemm{1, 1000, 512},
      models::Attention{
          .q_rows = 300, .kv_rows = 300, .heads = 4, .kv_heads = 2, .head_dim = 128, .causal = true},
      models::AttentionDecode{
          .batch = 2, .context = 700, .heads = 8, .kv_heads = 2, .head_dim = 64, .partial = true},
      models::Norm{200, 1024, models::NormKind::layer, true}};
  for (const models::Operator& op : ops) {
    INFO(models::signature_of(op));
    const std::string whole = in_child(h200, op, Time::never());
    CHECK(whole.find("sm.operations_retired") != std::string::npos);
    CHECK(in_child(h200, op, Time::never()) == whole);
    CHECK(in_child(h200, op, Clock::mhz(h200.boost_clock_mhz).period()) == whole);
    CHECK(in_child(h200, op, Time::nanoseconds(7)) == whole);
  }
}

TEST_CASE("every kernel kind runs on every GPU, conserving bytes and retiring every operation") {
  const models::Operator ops[] = {
      models::Gemm{100, 72, 136},
      models::Gemm{512, 256, 4096},
      models::Gemm{7, 129, 72},
      models::Attention{.batch = 2, .q_rows = 65, .kv_rows = 200, .heads = 2, .kv_heads = 1, .head_dim = 64},
      models::Attention{.q_rows = 129,
                        .kv_rows = 129,
                        .heads = 2,
                        .kv_heads = 2,
                        .head_dim = 128,
                        .causal = true,
                        .partial = true},
      models::Attention{
          .q_rows = 70, .kv_rows = 90, .heads = 1, .kv_heads = 1, .head_dim = 256, .flash_version = 2},
      models::AttentionDecode{.context = 1, .heads = 4, .kv_heads = 4, .head_dim = 128},
      models::Merge{33, 4, 64, 3},
      models::Norm{5, 4096},
      models::Rope{9, 4, 2, 64},
      models::Activation{11, 520},
      models::Activation{3, 96, models::ActivationKind::gelu},
      models::Softmax{4, 1000},
      models::Copy{1000},
      models::Embedding{17, 256}};
  for (const char* name : {"h200_sxm", "h100_sxm", "a100_sxm_80gb"}) {
    const GpuSpec spec = gpu(name);
    for (const models::Operator& op : ops) {
      INFO(name << ": " << models::signature_of(op));
      const std::string text =
          in_child(spec, op, Time::never());  // simulate_kernel throws if a law is broken
      CHECK(text.find("sm.operations_retired") != std::string::npos);
    }
  }
}

TEST_CASE("paged calls end also where a split of a tile has no keys") {
  const GpuSpec h200 = gpu("h200_sxm");
  const models::Operator ops[] = {models::Attention{.batch = 2,
                                                    .q_rows = 1024,
                                                    .kv_rows = 1024,
                                                    .heads = 5,
                                                    .kv_heads = 1,
                                                    .head_dim = 128,
                                                    .causal = true,
                                                    .paged = true},
                                  models::Attention{.batch = 1,
                                                    .q_rows = 512,
                                                    .kv_rows = 512,
                                                    .heads = 12,
                                                    .kv_heads = 2,
                                                    .head_dim = 256,
                                                    .causal = true,
                                                    .paged = true}};
  for (const models::Operator& op : ops) {
    INFO(models::signature_of(op));
    CHECK(in_child(h200, op, Time::never()).find("sm.operations_retired") != std::string::npos);
  }
}

TEST_CASE("replays start at the clock they are given, and beside the call before if they are launched so") {
  const GpuSpec h200 = gpu("h200_sxm");
  const models::Operator op = models::AttentionDecode{
      .batch = 2, .context = 128, .heads = 8, .kv_heads = 2, .head_dim = 128, .paged = true};
  const auto run = [&](const KernelOptions& options) { return in_child(h200, op, Time::never(), options); };
  const auto latency_us = [](const std::string& text) { return std::stod(text) * 1e-9; };
  const double alone = latency_us(run({})), replay = latency_us(run({.replayed = true}));
  CHECK(replay < alone - h200.launch.first_instruction_us);
  const double slow = latency_us(run({.fixed_clock_mhz = 1200, .replayed = true}));
  CHECK(slow > 1.1 * replay);
}

TEST_CASE("a large copy reaches a realistic share of HBM bandwidth") {
  const GpuSpec h200 = gpu("h200_sxm");
  const KernelResult r = simulate_kernel(h200, models::Copy{64 << 20}, {});
  CHECK(r.bottleneck == "HBM bandwidth");
  CHECK(r.hbm_read_bytes == 64 << 20);
  CHECK(r.utilization.at("hbm") > 0.5);
  CHECK(r.utilization.at("hbm") <= 1.0);
}

TEST_CASE("operands that are warm in L2 cause no HBM reads") {
  const GpuSpec h200 = gpu("h200_sxm");
  const KernelResult r = simulate_kernel(h200, models::Gemm{256, 512, 1024}, {.warm_operands = {0, 1}});
  CHECK(r.hbm_read_bytes == 0);
  CHECK(r.l2_hit_rate == 1.0);
}

TEST_CASE("a GEMM costs at least its FLOPs at peak and its tensor FLOPs are all done") {
  const GpuSpec h200 = gpu("h200_sxm");
  const models::Gemm g{1024, 2048, 1024};
  const KernelResult r = simulate_kernel(h200, g, {});
  // Whole tiles are multiplied, also where they hang over the edge.
  CHECK(r.statistics.at("sm.tensor_flops") >= models::flops_of(g));
  CHECK(r.statistics.at("sm.tensor_flops") <= 1.2 * models::flops_of(g));
  const double peak = h200.sms() * h200.sm.tensor_flops_per_cycle * h200.boost_clock_mhz;  // FLOP per us
  CHECK(r.execution.us() > r.flops / peak);
  CHECK(r.latency > r.execution);
}

}  // namespace
}  // namespace tessera::sim
