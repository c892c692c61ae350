// Events per second of the cycle model. SystemC allows one simulation per process: each is run in a forked
// one.

#include <benchmark/benchmark.h>

#include <chrono>
#include <systemc>

#include "configs/reader/hardware.hpp"
#include "sim/system/kernel_profile.hpp"

namespace tessera::sim {
namespace {

void cycle_model(benchmark::State& state, const models::Operator& op) {
  const GpuSpec gpu =
      config::read_gpu(std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/hardware/h200_sxm.yaml");
  KernelJob job{.gpu = &gpu, .op = op};
  job.options.threads = static_cast<unsigned>(state.range(0));
  double events = 0, simulated_us = 0, wall = 0;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    const auto results = simulate_all(
        {job}, 1, [](const KernelJob& j) { return simulate_kernel(*j.gpu, j.op, j.options); }, {});
    const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    state.SetIterationTime(s);
    wall += s;
    events += static_cast<double>(results[0].events);
    simulated_us += results[0].latency.us();
  }
  state.counters["events/s"] = events / wall;
  state.counters["simulated us/s"] = simulated_us / wall;
}

#define CYCLE_MODEL(name, ...)                      \
  BENCHMARK_CAPTURE(cycle_model, name, __VA_ARGS__) \
      ->Arg(1)                                      \
      ->Arg(2)                                      \
      ->ArgName("threads")                          \
      ->UseManualTime()                             \
      ->Iterations(1)                               \
      ->Unit(benchmark::kMillisecond)

CYCLE_MODEL(gemm_4096, models::Gemm{4096, 4096, 4096});
CYCLE_MODEL(gemm_few_rows, models::Gemm{8, 8192, 8192});
CYCLE_MODEL(prefill_4096, models::Attention{.batch = 1,
                                            .q_rows = 4096,
                                            .kv_rows = 4096,
                                            .heads = 8,
                                            .kv_heads = 2,
                                            .head_dim = 128,
                                            .causal = true});
CYCLE_MODEL(decode_8192, models::AttentionDecode{
                             .batch = 16, .context = 8192, .heads = 32, .kv_heads = 8, .head_dim = 128});
CYCLE_MODEL(copy_64_mib, models::Copy{.bytes = 64 << 20});

}  // namespace
}  // namespace tessera::sim

int sc_main(int argc, char* argv[]) {
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
