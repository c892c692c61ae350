#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <queue>
#include <random>

#include "kernels/gemm/estimate.hpp"
#include "kernels/library/lower.hpp"
#include "models/cost/cost_model.hpp"
#include "tests/kernels/counting.hpp"
#include "tests/kernels/gpus.hpp"

namespace tessera::cost {
namespace {

using tile::testing::addresses_for;
using tile::testing::ampere;
using tile::testing::hopper;

models::Attention prefill(std::int64_t batch, std::int64_t rows, std::int64_t heads, std::int64_t kv_heads,
                          std::int64_t d) {
  return {.batch = batch,
          .q_rows = rows,
          .kv_rows = rows,
          .heads = heads,
          .kv_heads = kv_heads,
          .head_dim = d,
          .causal = true};
}
models::AttentionDecode decode(std::int64_t batch, std::int64_t context, std::int64_t heads,
                               std::int64_t kv_heads, std::int64_t d) {
  return {.batch = batch, .context = context, .heads = heads, .kv_heads = kv_heads, .head_dim = d};
}
template <class A>
A paged(A a) {
  a.paged = true;
  return a;
}

std::vector<models::Operator> some_operators() {
  using namespace models;
  return {Gemm{4096, 4096, 4096},
          Gemm{300, 1000, 520},
          Gemm{4, 7168, 4096},
          Gemm{129, 512, 16384},
          prefill(1, 4096, 32, 8, 128),
          prefill(3, 1000, 4, 4, 64),
          paged(prefill(2, 2048, 8, 2, 128)),
          decode(16, 4096, 32, 8, 128),
          paged(decode(64, 8192, 32, 8, 128)),
          Norm{.rows = 5000, .width = 4096},
          Activation{.rows = 3000, .width = 5000},
          Rope{.rows = 2000, .heads = 32, .kv_heads = 8, .head_dim = 128},
          Copy{.bytes = 100'000'000}};
}

double latency(const GpuSpec& gpu, const models::Operator& op) {
  return CostModel{gpu}.cost(op, {}).latency_us;
}

TEST_CASE("outlines demand the bytes that all the programs do") {
  std::vector<models::Operator> operators = some_operators();
  operators.push_back(models::Merge{.rows = 700, .heads = 8, .head_dim = 64, .parts = 3});
  operators.push_back(models::Softmax{.rows = 77, .width = 3000});
  for (const GpuSpec& gpu : {hopper(), ampere()}) {
    for (const models::Operator& op : operators) {
      const auto* attention = std::get_if<models::Attention>(&op);
      const auto* step = std::get_if<models::AttentionDecode>(&op);
      const bool pages = (attention != nullptr && attention->paged) || (step != nullptr && step->paged);
      if (pages && !gpu.sm.has_tma) continue;
      for (const auto& kernel : kernels::lower(op, gpu, addresses_for(op))) {
        const tile::Outline outline = kernel->outline();
        if (outline.pieces.empty()) continue;
        INFO(models::signature_of(op) << ": " << kernel->shape().name);
        const tile::testing::Counts counts = tile::testing::count(*kernel);
        CHECK(outline.store_bytes == counts.stored);
        // Page tables and schedules are words; tiles that hang over the diagonal ask for keys that exist.
        CHECK(static_cast<double>(outline.load_bytes) ==
              Catch::Approx(static_cast<double>(counts.loaded)).epsilon(pages ? 0.02 : 1e-12));
      }
    }
  }
}

TEST_CASE("the tensor work demanded is the operator's, in whole tiles") {
  const GpuSpec gpu = hopper();
  for (const models::Operator& op : some_operators()) {
    const double flops = models::flops_of(op);
    const Cost c = CostModel{gpu}.cost(op, {});
    INFO(models::signature_of(op));
    if (!std::holds_alternative<models::Gemm>(op) && !std::holds_alternative<models::Attention>(op)) continue;
    double counted = 0;
    for (const auto& kernel : kernels::lower(op, gpu, addresses_for(op)))
      counted += tile::testing::count(*kernel).tensor_flops;
    const double demanded =
        c.utilization.tensor * c.execution_us * c.clock_mhz * gpu.sms() * gpu.sm.tensor_flops_per_cycle;
    CHECK(demanded >= 0.99 * flops);
    CHECK(demanded == Catch::Approx(counted).epsilon(0.03));
  }
}

TEST_CASE("demands and times are affine in the number of trips") {
  const GpuSpec gpu = hopper();
  const Rates rates{gpu};
  SmRun run{gpu.sm};
  for (const models::Operator& op : some_operators()) {
    for (const auto& kernel : kernels::lower(op, gpu, addresses_for(op))) {
      if (kernel->outline().pieces.empty()) continue;
      INFO(models::signature_of(op) << ": " << kernel->shape().name);
      const auto at = [&](std::uint32_t trips) {
        return run.run(*kernel->excerpt(1, 1, trips), 1, 1, {rates.l2_miss, rates.store, rates.l2_hit});
      };
      const Figures few = at(16), more = at(48), many = at(112);
      for (const Figure f : {cycles, tensor, shared, load_bytes, store_bytes, operations}) {
        INFO("figure " << f);
        CHECK(few[f] + 3 * (more[f] - few[f]) == Catch::Approx(many[f]).epsilon(0.02));
      }
    }
  }
}

TEST_CASE("faster hardware is never slower") {
  for (const models::Operator& op : some_operators()) {
    INFO(models::signature_of(op));
    double before = latency(hopper(), op);
    for (const double faster : {1.25, 1.5, 2.0}) {
      GpuSpec gpu = hopper();
      gpu.hbm.pin_gbps *= faster;
      const double now = latency(gpu, op);
      CHECK(now <= before * (1 + 1e-12));
      before = now;
    }
    // Latencies are cycles, so a faster clock shortens them too. The cap must not bind.
    GpuSpec slow = hopper(), fast = hopper();
    slow.power.cap_w = fast.power.cap_w = 1e6;
    fast.boost_clock_mhz *= 1.2;
    CHECK(latency(fast, op) <= latency(slow, op) * 1.03);  // another tile may be chosen
  }
}

TEST_CASE("the power cap lowers the clock of large products, less for zeros") {
  const models::Gemm g{8192, 8192, 8192};
  CostModel model{hopper()};
  const Cost random = model.cost(g, {}), zeros = model.cost(g, {.random_data = false});
  CHECK(random.clock_mhz < zeros.clock_mhz);
  CHECK(random.latency_us > zeros.latency_us);
  CHECK(random.bottleneck == "tensor cores");
}

TEST_CASE("replays slow down once the mean power has reached the cap") {
  CostModel model{hopper()};
  const models::Gemm g{8192, 8192, 8192};
  const auto mhz = [&](std::uint32_t before, std::uint32_t counted) {
    return model.cost(g, {.replayed = true, .launches_before = before, .launches_counted = counted})
        .clock_mhz;
  };
  // 1.4 ms each: the mean takes some 20 launches to get there.
  const double first = mhz(0, 3), later = mhz(1000, 3), endless = mhz(0, 0), over = mhz(3, 100);
  CHECK(later == endless);
  CHECK(first > 1.05 * endless);
  CHECK((over > endless && over < first));
  // What never draws that much is as fast in the end as it was at first.
  const models::Gemm light{16, 4096, 4096};
  const auto light_mhz = [&](std::uint32_t counted) {
    return model.cost(light, {.replayed = true, .launches_counted = counted}).clock_mhz;
  };
  CHECK(light_mhz(1) == light_mhz(0));
}

TEST_CASE("operands in the L2 cost no HBM traffic") {
  CostModel model{hopper()};
  const models::Gemm g{64, 4096, 1024};
  const Cost cold = model.cost(g, {}), warm = model.cost(g, {.warm_operands = {0, 1, 2}, .replayed = true});
  CHECK(cold.hbm_read_bytes == 2.0 * (64 * 1024 + 4096 * 1024));
  CHECK(warm.hbm_read_bytes == 0);
  CHECK(warm.latency_us < cold.latency_us);
  // What does not fit is not there.
  const models::Copy large{.bytes = 100'000'000};
  const Cost much = model.cost(large, {.warm_operands = {0, 1}, .replayed = true});
  CHECK(much.hbm_read_bytes == 100e6);
  CHECK(much.hbm_write_bytes == 100e6);
  CHECK_THROWS_AS(model.cost(g, {.warm_operands = {3}}), std::invalid_argument);
}

TEST_CASE("what writes the cache before attention moves its bytes through the HBM on its own time") {
  const models::Attention a = paged(prefill(8, 1536, 12, 12, 256));
  const double rows = 8.0 * 1536 * 12 * 256 * 2;  // bytes of q, of the new keys, of the cache
  const Conditions replayed{.replayed = true};
  CostModel model{hopper()};
  const Cost c = model.cost(a, replayed);
  CHECK(c.hbm_read_bytes == Catch::Approx(5 * rows).epsilon(0.01));   // q, new and cached keys and values
  CHECK(c.hbm_write_bytes == Catch::Approx(3 * rows).epsilon(0.01));  // both caches, the result
  // Attention hides its own traffic from a memory half as fast, but nothing hides the cache's writing.
  GpuSpec slow = hopper();
  slow.hbm.pin_gbps /= 2;
  CHECK(CostModel{slow}.cost(a, replayed).execution_us - c.execution_us >
        0.8 * 4 * rows / hopper().hbm.peak_bytes_per_us());
}

TEST_CASE("what no kernel supports is refused") {
  CostModel model{hopper()};
  CHECK_THROWS_AS(model.cost(models::Gemm{64, 64, 64, models::Dtype::fp8}, {}), std::invalid_argument);
  CHECK_THROWS_AS(model.cost(models::Gemm{0, 64, 64}, {}), std::invalid_argument);
  GpuSpec small = hopper();
  small.sm.registers = 100;
  CHECK_THROWS_AS(latency(small, models::Norm{.rows = 64, .width = 64}), std::invalid_argument);
}

TEST_CASE("list schedules are those of a queue of machines") {
  std::mt19937_64 random{3};
  for (int i = 0; i < 200; ++i) {
    const std::uint64_t machines = 1 + random() % 40, rounds = 1 + random() % 3;
    std::vector<Batch> batches(1 + random() % 6);
    double longest = 0, work = 0;
    std::uint64_t count = 0;
    for (Batch& b : batches) {
      b = {1 + random() % 60, static_cast<double>(1 + random() % 100)};
      longest = std::max(longest, b.duration);
    }
    std::sort(batches.begin(), batches.end(),
              [](const Batch& a, const Batch& b) { return a.duration > b.duration; });
    std::priority_queue<double, std::vector<double>, std::greater<>> free;
    for (std::uint64_t m = 0; m < machines; ++m) free.push(0);
    double end = 0;
    for (std::uint64_t r = 0; r < rounds; ++r) {
      for (const Batch& b : batches) {
        for (std::uint64_t n = 0; n < b.count; ++n) {
          const double until = free.top() + b.duration;
          free.pop();
          free.push(until);
          end = std::max(end, until);
          work += b.duration;
          ++count;
        }
      }
    }
    ListSchedule schedule;
    const double makespan = schedule.makespan(batches, rounds, machines);
    if (batches.size() == 1 || count <= 4 * machines) {
      CHECK(makespan == Catch::Approx(end));
    } else {
      CHECK(std::abs(makespan - end) <= longest);
      CHECK(makespan >= work / static_cast<double>(machines) - 1e-9);
    }
  }
}

TEST_CASE("the chosen GEMM tiling is the best of all that the estimate knows") {
  std::mt19937_64 random{5};
  const GpuSpec gpu = hopper();
  for (int i = 0; i < 50; ++i) {
    const models::Gemm g{static_cast<std::int64_t>(1 + random() % 5000),
                         static_cast<std::int64_t>(8 * (1 + random() % 1000)),
                         static_cast<std::int64_t>(8 * (1 + random() % 1000))};
    const kernels::GemmTiling best = kernels::choose_gemm_tiling(g, gpu);
    const double cycles = kernels::estimate_cycles(g, gpu, best);
    for (const std::uint32_t split : {1U, 2U, 4U, 8U}) {
      if (split > 1 && g.k < 64 * 4 * std::int64_t{split}) continue;
      for (const std::uint32_t tile_n : {64U, 128U, 192U, 256U}) {
        // Of the tiles needed for so many columns, at the most these.
        kernels::GemmTiling t{.tile_m = 128, .tile_n = tile_n, .cluster = 1, .split_k = split};
        t.stages = std::min(16U, (232448U - 32768U - 1024U) / ((128 + tile_n) * 128));
        CHECK(cycles <= kernels::estimate_cycles(g, gpu, t) * (1 + 1e-9));
      }
    }
  }
}

}  // namespace
}  // namespace tessera::cost
