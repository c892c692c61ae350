#include <unistd.h>

#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "configs/reader/hardware.hpp"
#include "models/architecture/architecture.hpp"
#include "models/cost/schedule.hpp"
#include "traces/steps/step_table.hpp"

using namespace tessera;
using namespace tessera::traces;

namespace {

const std::string kConfigs = TESSERA_SOURCE_DIR "/configs/";

const models::Architecture& tiny() {
  static const models::Architecture m = models::read_architecture(kConfigs + "models/tiny.yaml");
  return m;
}
const models::Architecture& tiny_kimi() {
  static const models::Architecture m =
      models::read_architecture(kConfigs + "models/tiny_kimi_linear/config.json");
  return m;
}

const sim::MachineSpec& machine() {
  static const GpuSpec gpu = config::read_gpu(std::filesystem::path{kConfigs + "hardware/h200_sxm.yaml"});
  static const sim::MachineSpec m{
      gpu, gpu, config::read_fabric(std::filesystem::path{kConfigs + "fabrics/nvlink4_nvswitch.yaml"})};
  return m;
}

ServedModel single(const models::Architecture& m) { return {.model = &m}; }
ServedModel cascade(const models::Architecture& m) {
  return {.model = &m, .cascade = true, .share_out = [](std::int64_t tokens) {
            return models::Sharding{models::c_delta(tokens, 2, 6), models::across_clusters(tokens, 2, 2, 6)};
          }};
}

double attention_flops(const models::TaskGraph& graph) {
  double flops = 0;
  for (const models::Task& t : graph.tasks) {
    const auto* c = std::get_if<models::Compute>(&t.work);
    if (c != nullptr && t.stage == models::Stage::attention) flops += models::flops_of(c->op);
  }
  return flops;
}

bool valid(const models::TaskGraph& graph) {
  for (models::TaskId t = 0; t < graph.tasks.size(); ++t) {
    for (const models::TaskId before : graph.tasks[t].after) {
      if (before >= t) return false;
    }
    if (const auto* c = std::get_if<models::Compute>(&graph.tasks[t].work)) models::check(c->op);
  }
  return true;
}

ServingSpec small() {
  ServingSpec s;
  s.max_batched_tokens = 512;
  s.max_sequences = 16;
  return s;
}

}  // namespace

TEST_CASE("new tokens behind cached ones do the attention of the whole prompt less that of its beginning") {
  for (const bool over_nodes : {false, true}) {
    const ServedModel served = over_nodes ? cascade(tiny()) : single(tiny());
    const models::TaskGraph behind = prefill_graph(served, 256, 1024);
    CHECK(valid(behind));
    const double whole = attention_flops(prefill_graph(served, 1280, 0)),
                 beginning = attention_flops(prefill_graph(served, 1024, 0));
    CHECK(attention_flops(behind) == Catch::Approx(whole - beginning).epsilon(0.01));
  }
}

TEST_CASE("a decode step is free of its prompt, and its attention grows with the context") {
  for (const bool over_nodes : {false, true}) {
    for (const models::Architecture* m : {&tiny(), &tiny_kimi()}) {
      const ServedModel served = over_nodes ? cascade(*m) : single(*m);
      const models::TaskGraph graph = decode_graph(served, 8, 4096);
      CHECK(valid(graph));
      std::size_t comp_heads = 0;
      for (const models::Task& t : graph.tasks) {
        CHECK(t.step >= 0);
        comp_heads += t.stage == models::Stage::head && std::holds_alternative<models::Compute>(t.work);
      }
      CHECK(comp_heads == (over_nodes ? 8 : 2));  // a norm and a product, on each of 4 CompNodes
    }
    // Dense: flops are in proportion to batch and context.
    const ServedModel served = over_nodes ? cascade(tiny()) : single(tiny());
    const double flops = attention_flops(decode_graph(served, 8, 4096));
    CHECK(attention_flops(decode_graph(served, 8, 8192)) == Catch::Approx(2 * flops).epsilon(0.01));
    CHECK(attention_flops(decode_graph(served, 16, 4096)) == Catch::Approx(2 * flops).epsilon(0.01));
  }
}

TEST_CASE("tensor-parallel steps: every GPU has its part of attention and of the caches") {
  ServedModel served = single(tiny());
  served.tensor_gpus = 2;
  const ServedModel whole = single(tiny());
  for (const auto& [parts, all] : {std::pair{prefill_graph(served, 128, 512), prefill_graph(whole, 128, 512)},
                                   std::pair{decode_graph(served, 6, 700), decode_graph(whole, 6, 700)}}) {
    CHECK(valid(parts));
    CHECK(parts.nodes.size() == 2);
    CHECK(attention_flops(parts) == Catch::Approx(attention_flops(all)));
  }
  CHECK(instance_memory(served, machine(), small()).token_bytes * 2 == tiny().kv_bytes_per_token());
  StepTable table{served, machine(), small()}, alone{whole, machine(), small()};
  const StepShape decode{.sequences = 8, .context_tokens = 8 * 4096};
  CHECK(table.ns(decode, 0) > 0);
  CHECK(table.ns(decode, 0) != alone.ns(decode, 0));
  CHECK(table.busy_ns(0).size() == 2);
}

TEST_CASE("chunks are shared out on their own: no CompNode or AttnNode has all of one behind a cache") {
  const models::Architecture& m = tiny();
  ServedModel served{.model = &m, .cascade = true, .share_out = [](std::int64_t tokens) {
                       return models::Sharding{models::contiguous(tokens, 4), models::contiguous(tokens, 2)};
                     }};
  std::vector<std::int64_t> rows(8);
  for (const models::Task& t : prefill_graph(served, 64, 1024).tasks) {
    const auto* c = std::get_if<models::Compute>(&t.work);
    if (c == nullptr || t.layer != 0) continue;
    if (const auto* a = std::get_if<models::Attention>(&c->op)) rows[t.node] = a->q_rows;
    if (const auto* n = std::get_if<models::Norm>(&c->op); n && t.stage == models::Stage::norm)
      rows[t.node] = n->rows;
  }
  CHECK(rows == std::vector<std::int64_t>{16, 16, 16, 16, 32, 32, 32, 32});
}

TEST_CASE("who fetches latents has them but for the last round") {
  const auto sent = [](std::int64_t context) {
    ServedModel served = cascade(tiny_kimi());
    served.workload.latents = models::LatentPolicy::fetch;
    const models::TaskGraph graph = decode_graph(served, 4, context);
    CHECK(valid(graph));
    std::int64_t bytes = 0;
    for (const models::Task& t : graph.tasks) {
      if (const auto* message = std::get_if<models::Transfer>(&t.work)) bytes += message->bytes;
    }
    return bytes;
  };
  CHECK(sent(512) == sent(4096));
}

TEST_CASE("a table gives the grid's steps themselves, and something in between between them") {
  StepTable table{single(tiny()), machine(), small()};
  const auto at = [&](std::int64_t prefill, std::int64_t past, std::int64_t sequences, std::int64_t context) {
    return table.ns({.prefill_tokens = prefill,
                     .prefill_pairs = static_cast<double>(prefill) *
                                      (static_cast<double>(past) + 0.5 * static_cast<double>(prefill)),
                     .sequences = sequences,
                     .context_tokens = sequences * context},
                    0);
  };
  const auto direct = [&](const models::TaskGraph& graph) {
    KernelPrices prices{KernelPrices::Model::cost};
    sim::RunOptions cost;
    cost.price = [&](const std::vector<sim::KernelJob>& jobs) { return prices(jobs); };
    const sim::KernelProfile profile = profile_kernels(graph, machine(), cost, {});
    const cost::Schedule s =
        cost::schedule_tasks(graph, machine().fabric, profile.duration_of_task, /*spans=*/false);
    return std::max_element(s.end.begin(), s.end.end())->ns();
  };
  CHECK(static_cast<double>(at(256, 1024, 0, 0)) ==
        Catch::Approx(direct(prefill_graph(single(tiny()), 256, 1024))).epsilon(1e-3));
  CHECK(static_cast<double>(at(0, 0, 8, 4096)) ==
        Catch::Approx(direct(decode_graph(single(tiny()), 8, 4096))).epsilon(1e-3));
  // Decoded tokens cost a prompt's step something, less than a step of their own.
  const std::int64_t prefill = at(250, 0, 0, 0), decode = at(0, 0, 8, 4096), both = at(250, 0, 8, 4096);
  CHECK(both > prefill);
  CHECK(both < prefill + decode);
  CHECK(at(0, 0, 8, 65536) > decode);
  CHECK(at(512, 16384, 0, 0) > at(512, 0, 0, 0));
  // Four prompts of 128 tokens have fewer pairs than one of 512.
  const std::int64_t four = table.ns({.prefill_tokens = 512, .prefill_pairs = 4 * 128 * 64.0}, 0);
  CHECK(four <= at(512, 0, 0, 0));
  CHECK(four > 0);
  const StepTable::Error error = table.interpolation_error(6);
  CHECK(error.steps > 0);
  CHECK(error.max_percent < 40);
  const std::vector<double> busy = table.busy_ns(0);
  REQUIRE(busy.size() == 1);
  CHECK(busy[0] > 0);
}

TEST_CASE("a memo gives back what was simulated, to the same machine only") {
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() / ("tessera_memo_test_" + std::to_string(::getpid()));
  sim::KernelResult result;
  result.latency = Time::from_us(12.5);
  result.execution = Time::from_us(9);
  result.ci95_percent = 0.25;
  {
    KernelMemo memo{file, "machine"};
    CHECK_FALSE(memo.find("gemm m1 n2|h200|0,", result));
    memo.add("gemm m1 n2|h200|0,", result);
    memo.save();
    KernelMemo{file, "other"}.save();  // keeps what is not its own
  }
  sim::KernelResult kept;
  CHECK_FALSE(KernelMemo(file, "other").find("gemm m1 n2|h200|0,", kept));
  KernelMemo again{file, "machine"};
  REQUIRE(again.find("gemm m1 n2|h200|0,", kept));
  CHECK(again.found() == 1);
  CHECK(kept.latency == result.latency);
  CHECK(kept.execution == result.execution);
  CHECK(kept.ci95_percent == result.ci95_percent);
  // Prices that a memo has are not simulated.
  KernelPrices prices{KernelPrices::Model::cycle, 1};
  prices.remember_in(again, machine().comp_gpu);
  again.add("comp a key", result);
  CHECK(prices({{&machine().comp_gpu, models::Copy{1}, {}, "a key"}}).front().latency == result.latency);
  std::ofstream{file} << "something else\n";
  CHECK_THROWS_AS(KernelMemo(file, "machine"), config::InputError);
  std::filesystem::remove(file);
}

TEST_CASE("over nodes the table knows how busy each was") {
  StepTable table{cascade(tiny_kimi()), machine(), small()};
  const auto ns = static_cast<double>(table.ns({.sequences = 4, .context_tokens = 4 * 1024}, 0));
  REQUIRE(table.nodes().size() == 8);
  for (const double busy : table.busy_ns(0)) {
    CHECK(busy > 0);
    CHECK(busy < ns);
  }
}

TEST_CASE("an instance's memory is what weights and activations leave") {
  const InstanceMemory one = instance_memory(single(tiny()), machine(), small());
  CHECK(one.token_bytes == tiny().kv_bytes_per_token());
  CHECK(one.state_bytes == 0);
  CHECK(static_cast<double>(one.capacity_bytes) <
        0.9 * static_cast<double>(machine().comp_gpu.hbm.capacity_bytes));
  CHECK(static_cast<double>(one.capacity_bytes) >
        0.9 * static_cast<double>(machine().comp_gpu.hbm.capacity_bytes) - 2e9);
  const InstanceMemory shared = instance_memory(cascade(tiny()), machine(), small());
  CHECK(shared.token_bytes * 2 == one.token_bytes);
  sim::MachineSpec full = machine();
  full.comp_gpu.hbm.capacity_bytes = 1000;
  CHECK_THROWS_AS(instance_memory(single(tiny()), full, small()), std::invalid_argument);
}
