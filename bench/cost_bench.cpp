// Kernels per second of the cost model, on one core: operators of random shapes, each costed as validate
// does.

#include <benchmark/benchmark.h>

#include <random>

#include "configs/reader/hardware.hpp"
#include "kernels/gemm/gemm.hpp"
#include "models/cost/cost_model.hpp"

namespace tessera {
namespace {

const GpuSpec& h200() {
  static const GpuSpec gpu =
      config::read_gpu(std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/hardware/h200_sxm.yaml");
  return gpu;
}

using Random = std::mt19937_64;
/// Log-uniform.
std::int64_t between(Random& random, double low, double high) {
  return static_cast<std::int64_t>(low * std::pow(high / low, static_cast<double>(random() % 100000) / 1e5));
}
models::Operator gemm(Random& random) {
  return models::Gemm{between(random, 1, 32768), 8 * between(random, 4, 8192), 8 * between(random, 4, 8192)};
}
models::Operator decode(Random& random) {
  const std::int64_t kv = 1LL << random() % 4;
  const std::int64_t dims[] = {64, 128, 256};
  return models::AttentionDecode{.batch = between(random, 1, 2048),
                                 .context = between(random, 2, 131072),
                                 .heads = kv << random() % 4,
                                 .kv_heads = kv,
                                 .head_dim = dims[random() % 3],
                                 .paged = true};
}
models::Operator prefill(Random& random) {
  const std::int64_t kv = 1LL << random() % 4, rows = between(random, 1, 131072);
  const std::int64_t dims[] = {64, 128, 256};
  return models::Attention{.batch = between(random, 1, 64),
                           .q_rows = rows,
                           .kv_rows = rows,
                           .heads = kv << random() % 4,
                           .kv_heads = kv,
                           .head_dim = dims[random() % 3],
                           .causal = true,
                           .paged = true};
}

models::Operator latent_decode(Random& random) {
  return models::LatentDecode{.batch = between(random, 1, 2048),
                              .context = between(random, 2, 131072),
                              .heads = 1LL << random() % 8,
                              .paged = true};
}
models::Operator latent_prefill(Random& random) {
  const std::int64_t rows = between(random, 2, 32768);
  return models::LatentDecode{.batch = between(random, 1, 64),
                              .context = rows,
                              .heads = 1LL << random() % 8,
                              .q_rows = rows,
                              .paged = true};
}
models::Operator kda_prefill(Random& random) {
  return models::LinearAttention{.rule = models::kKda,
                                 .batch = between(random, 1, 64),
                                 .seq = between(random, 1, 131072),
                                 .heads = 4LL << random() % 4};
}
models::Operator moe(Random& random) {
  const std::int64_t experts = 64LL << random() % 3, topk = 2 + 2 * static_cast<std::int64_t>(random() % 4),
                     tokens = between(random, 1, 32768);
  const std::vector<std::int32_t> loads = models::expert_loads(
      {.kind = models::LoadKind::power_law, .exponent = 1.2, .seed = random()}, {tokens, experts, topk});
  return models::Moe{.tokens = tokens,
                     .hidden = 256 * between(random, 4, 32),
                     .intermediate = 128 * between(random, 2, 20),
                     .experts = experts,
                     .all_experts = experts,
                     .topk = topk,
                     .loads = models::loads_of(loads, 0, experts)};
}
models::Operator moba(Random& random) {
  const std::int64_t kv = 1LL << random() % 4;
  return models::Moba{.batch = between(random, 1, 8),
                      .seq = between(random, 512, 131072),
                      .heads = kv << random() % 4,
                      .kv_heads = kv,
                      .head_dim = 128,
                      .block = 512LL << random() % 4,
                      .topk = 2 + static_cast<std::int64_t>(random() % 7)};
}

void cost_of(benchmark::State& state, models::Operator (*draw)(Random&)) {
  Random random{1};
  std::vector<models::Operator> operators;
  for (benchmark::IterationCount i = 0; i < state.max_iterations; ++i) operators.push_back(draw(random));
  cost::CostModel model{h200()};
  std::size_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(model.cost(operators[next], {}));
    if (++next == operators.size()) next = 0;
  }
  state.SetItemsProcessed(state.iterations());
}

void choice_of_tiling(benchmark::State& state) {
  Random random{1};
  std::vector<models::Gemm> gemms;
  for (int i = 0; i < 20000; ++i) gemms.push_back(std::get<models::Gemm>(gemm(random)));
  std::size_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(kernels::choose_gemm_tiling(gemms[next], h200()));
    if (++next == gemms.size()) next = 0;
  }
  state.SetItemsProcessed(state.iterations());
}

BENCHMARK_CAPTURE(cost_of, gemm, gemm)->Iterations(20000)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(cost_of, attention_decode, decode)->Iterations(20000)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(cost_of, attention_prefill, prefill)->Iterations(20000)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(cost_of, mla_decode, latent_decode)->Iterations(20000)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(cost_of, mla_prefill, latent_prefill)->Iterations(2000)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(cost_of, kda_prefill, kda_prefill)->Iterations(1000)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(cost_of, moe, moe)->Iterations(2000)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(cost_of, moba, moba)->Iterations(200)->Unit(benchmark::kMicrosecond);
BENCHMARK(choice_of_tiling)->Iterations(20000)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace tessera

BENCHMARK_MAIN();
