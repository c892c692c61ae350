#include "sim/system/kernel_cost.hpp"

#include <fmt/format.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>

#include "configs/reader/hardware.hpp"
#include "tests/models/draw_operators.hpp"

namespace tessera::sim {
namespace {

TEST_CASE("the cost model agrees with the cycle model on small kernels") {
  const GpuSpec gpu =
      config::read_gpu(std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/hardware/h200_sxm.yaml");
  std::mt19937_64 random{11};
  const auto pick = [&](std::initializer_list<std::int64_t> of) { return of.begin()[random() % of.size()]; };
  std::vector<KernelJob> jobs;
  const auto add = [&](const models::Operator& op) {
    KernelJob job{.gpu = &gpu, .op = op};
    // Everything warm, or nothing.
    if (random() % 2 == 0) {
      job.options.replayed = true;
      for (std::uint32_t i = 0; i < models::operands_of(op).size(); ++i)
        job.options.warm_operands.push_back(i);
    }
    jobs.push_back(job);
  };
  for (int i = 0; i < 12; ++i)
    add(models::Gemm{pick({1, 8, 64, 129, 512, 2048}), pick({256, 1024, 3072, 4096}),
                     pick({64, 512, 1024, 2048})});
  for (int i = 0; i < 8; ++i) {
    const std::int64_t kv = pick({1, 2, 8}), rows = pick({64, 256, 1024});
    add(models::Attention{.batch = pick({1, 4}),
                          .q_rows = rows,
                          .kv_rows = rows,
                          .heads = kv * pick({1, 4}),
                          .kv_heads = kv,
                          .head_dim = pick({64, 128, 256}),
                          .causal = true,
                          .paged = random() % 2 == 0});
  }
  for (int i = 0; i < 8; ++i) {
    const std::int64_t kv = pick({1, 2, 8});
    add(models::AttentionDecode{.batch = pick({1, 8, 64}),
                                .context = pick({128, 1024, 4096}),
                                .heads = kv * pick({1, 4}),
                                .kv_heads = kv,
                                .head_dim = pick({64, 128, 256}),
                                .paged = random() % 2 == 0});
  }
  add(models::Norm{.rows = 4096, .width = 4096});
  add(models::Rope{.rows = 2048, .heads = 32, .kv_heads = 8, .head_dim = 128});
  add(models::Activation{.rows = 2048, .width = 8192});
  add(models::Copy{.bytes = 64 << 20});

  std::vector<KernelResult> costs;
  cost::CostModel model{gpu};
  for (const KernelJob& job : jobs) costs.push_back(cost_one(model, job));
  const std::vector<KernelResult> cycles = simulate_all(
      jobs, 0, [](const KernelJob& job) { return simulate_kernel(*job.gpu, job.op, job.options); }, {});
  double sum = 0, bytes_off = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const double error = costs[i].latency.us() / cycles[i].latency.us() - 1;
    INFO(models::signature_of(jobs[i].op)
         << ": cost " << costs[i].latency.us() << " us, cycle " << cycles[i].latency.us());
    CHECK(std::abs(error) < 0.35);
    sum += std::abs(error);
    bytes_off +=
        std::abs(static_cast<double>(costs[i].l2_bytes) / static_cast<double>(cycles[i].l2_bytes) - 1);
  }
  CHECK(sum / static_cast<double>(jobs.size()) < 0.10);
  CHECK(bytes_off / static_cast<double>(jobs.size()) < 0.02);
}

TEST_CASE("the cost model agrees with the cycle model on an A100's latent attention") {
  const GpuSpec gpu =
      config::read_gpu(std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/hardware/a100_sxm_80gb.yaml");
  std::vector<KernelJob> jobs;
  const auto add = [&](const models::Operator& op) { jobs.push_back({.gpu = &gpu, .op = op}); };
  for (const auto& [batch, context, heads] : std::vector<std::array<std::int64_t, 3>>{
           {1, 500, 32}, {1, 4096, 16}, {4, 8192, 32}, {1, 32'768, 32}, {16, 2048, 16}, {8, 1500, 128}}) {
    models::LatentDecode decode{.batch = batch, .context = context, .heads = heads};
    add(decode);
    decode.paged = true;
    add(decode);
  }
  for (const auto& [rows, heads] :
       std::vector<std::array<std::int64_t, 2>>{{100, 4}, {256, 16}, {1024, 8}, {2048, 4}}) {
    for (const bool causal : {false, true})
      add(models::LatentAttention{.q_rows = rows, .kv_rows = rows, .heads = heads, .causal = causal});
  }
  cost::CostModel model{gpu};
  const std::vector<KernelResult> cycles = simulate_all(
      jobs, 0, [](const KernelJob& job) { return simulate_kernel(*job.gpu, job.op, job.options); }, {});
  double sum = 0;
  std::string each;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const double error = cost_one(model, jobs[i]).latency.us() / cycles[i].latency.us() - 1;
    each += fmt::format("{:+.1f} % of {:.1f} us: {}\n", 100 * error, cycles[i].latency.us(),
                        models::signature_of(jobs[i].op));
    sum += std::abs(error);
  }
  const double mape = 100 * sum / static_cast<double>(jobs.size());
  INFO(each << "MAPE " << mape);
  CHECK(mape < 10);
}

/// Few enough operations to be simulated in a moment.
constexpr std::uint64_t kMostOperations = 60'000;

TEST_CASE("the cost model agrees with the cycle model on a random sample of every family") {
  const GpuSpec gpu =
      config::read_gpu(std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/hardware/h200_sxm.yaml");
  models::testing::Draw draw{17};
  std::vector<KernelJob> jobs;
  std::vector<KernelResult> costs;
  cost::CostModel model{gpu};
  constexpr int kEach = 2, kTries = 400;
  for (std::size_t family = 0; family < std::variant_size_v<models::Operator>; ++family) {
    int drawn = 0;
    for (int tries = 0; drawn < kEach && tries < kTries; ++tries) {
      KernelJob job{.gpu = &gpu, .op = draw(family)};
      try {
        KernelResult cost = cost_one(model, job);
        if (cost.operations > kMostOperations) continue;
        costs.push_back(std::move(cost));
        jobs.push_back(std::move(job));
        ++drawn;
      } catch (const std::invalid_argument&) {  // no such kernel
      }
    }
    INFO("family " << family);
    CHECK(drawn == kEach);
  }
  const std::vector<KernelResult> cycles = simulate_all(
      jobs, 0, [](const KernelJob& job) { return simulate_kernel(*job.gpu, job.op, job.options); }, {});
  double sum = 0;
  std::string each;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const double error = costs[i].latency.us() / cycles[i].latency.us() - 1;
    each += fmt::format("{:+.1f} % of {:.1f} us: {}\n", 100 * error, cycles[i].latency.us(),
                        models::signature_of(jobs[i].op));
    sum += std::abs(error);
  }
  const double mape = 100 * sum / static_cast<double>(jobs.size());
  INFO(each << "MAPE " << mape);
  CHECK(mape < 10);
}

}  // namespace
}  // namespace tessera::sim
