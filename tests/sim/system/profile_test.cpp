#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <cmath>
#include <csignal>
#include <stdexcept>
#include <thread>

#include "sim/system/kernel_profile.hpp"

namespace tessera::sim {
namespace {

GpuSpec small_gpu() {
  GpuSpec g;
  g.name = "small";
  g.l2.bytes = 1000;
  return g;
}

/// Latency 1 us plus 1 ns per kv row of context, or per byte of a copy.
KernelResult pretend(const KernelJob& job) {
  KernelResult r;
  std::int64_t ns = 1000;
  if (const auto* d = std::get_if<models::AttentionDecode>(&job.op)) ns += d->context;
  if (const auto* d = std::get_if<models::LatentDecode>(&job.op)) ns += d->context;
  if (const auto* c = std::get_if<models::Copy>(&job.op)) ns += c->bytes;
  r.latency = r.execution = Time::nanoseconds(ns);
  r.energy_j = 0.1 + 1.0 / 3.0;
  r.utilization = {{"tensor", 0.1}};
  r.kernels = {"k"};
  r.statistics = {{"warm", static_cast<double>(job.options.warm_operands.size())}};
  r.activity["HBM"] = {{Time{1}, Time{2}, 0.25}};
  return r;
}

models::TaskGraph copies(const std::vector<std::pair<std::vector<models::BufferId>, std::int64_t>>& work) {
  models::TaskGraph g;
  g.nodes = {{"a", models::NodeKind::comp}};
  for (const auto& [buffers, bytes] : work) {
    g.tasks.push_back({0, 0, -1, models::Stage::mlp, models::Compute{models::Copy{bytes}, buffers}, {}});
  }
  return g;
}

TEST_CASE("equal kernels are simulated once, unless exact") {
  const models::TaskGraph g = copies({{{0, 1}, 300}, {{2, 3}, 300}, {{4, 5}, 300}, {{6, 7}, 500}});
  const MachineSpec spec{small_gpu(), small_gpu(), {}};
  const KernelProfile p = profile_kernels(g, spec, {.jobs = 2}, pretend);
  CHECK(p.kernels.size() == 2);
  CHECK(p.kernels[0].instances == 3);
  CHECK(p.duration_of_task[3] == Time::nanoseconds(1500));
  CHECK(p.ci95_percent == 0);
  CHECK(profile_kernels(g, spec, {.exact = true, .jobs = 2}, pretend).kernels.size() == 4);
}

TEST_CASE("what was touched within the L2's size is warm") {
  // Copy 1 -> 2, then read 2 (warm), then 800 B elsewhere, then read 2 again: 2 * 800 B have passed.
  const models::TaskGraph g = copies({{{1, 2}, 100}, {{2, 3}, 100}, {{4, 5}, 800}, {{2, 6}, 100}});
  const KernelProfile p = profile_kernels(g, {small_gpu(), small_gpu(), {}}, {.jobs = 1}, pretend);
  const auto warm = [&](std::size_t task) {
    return p.kernels[p.kernel_of_task[task]].result.statistics.at("warm");
  };
  CHECK(warm(0) == 0);
  CHECK(warm(1) == 1);
  CHECK(warm(2) == 0);
  CHECK(warm(3) == 0);
}

/// The warm operands of each task of a graph of (operator, buffers) on one small GPU.
std::vector<double> warm_operands(
    const std::vector<std::pair<models::Operator, std::vector<models::BufferId>>>& work) {
  models::TaskGraph g;
  g.nodes = {{"a", models::NodeKind::comp}};
  for (const auto& [op, buffers] : work)
    g.tasks.push_back({0, 0, -1, models::Stage::mlp, models::Compute{op, buffers}, {}});
  const KernelProfile p =
      profile_kernels(g, {small_gpu(), small_gpu(), {}}, {.exact = true, .jobs = 1}, pretend);
  std::vector<double> warm;
  for (const std::uint32_t kernel : p.kernel_of_task)
    warm.push_back(p.kernels[kernel].result.statistics.at("warm"));
  return warm;
}

TEST_CASE("operands that share a buffer are different parts of it, those written in place the same") {
  // q and k of 480 + 120 B, rotated in place: 600 B pass, not 1200 and not the last operand's 120.
  const models::Rope rope{.rows = 1, .heads = 4, .kv_heads = 1, .head_dim = 60};
  const auto rotate = std::pair{models::Operator{rope}, std::vector<models::BufferId>{1, 1, 1, 1}};
  const auto copy = [](models::BufferId from, models::BufferId to, std::int64_t bytes) {
    return std::pair{models::Operator{models::Copy{bytes}}, std::vector<models::BufferId>{from, to}};
  };
  CHECK(warm_operands({copy(2, 3, 100), rotate, copy(3, 4, 100)}) == std::vector<double>{0, 0, 1});
  CHECK(warm_operands({copy(2, 3, 100), copy(5, 6, 250), rotate, copy(3, 4, 100)}) ==
        std::vector<double>{0, 0, 0, 0});
}

TEST_CASE("what a kernel appends to a cold buffer does not make it warm") {
  const auto copy = [](models::BufferId from, models::BufferId to, std::int64_t bytes) {
    return std::pair{models::Operator{models::Copy{bytes}}, std::vector<models::BufferId>{from, to}};
  };
  // 400 B into buffer 1, pushed out, 100 B appended: the appended row is warm, the whole is not.
  const auto fill = copy(0, 1, 400), pass = copy(5, 6, 600), append = copy(2, 1, 100);
  CHECK(warm_operands({fill, pass, append, copy(1, 3, 100)}).back() == 1);
  CHECK(warm_operands({fill, pass, append, copy(1, 3, 500)}).back() == 0);
  // Not pushed out: both are.
  CHECK(warm_operands({fill, append, copy(1, 3, 500)}).back() == 1);
}

/// One decode step of `attention` at each context from 100 to 149: few contexts are simulated.
template <class Decode>
void check_interpolated(Decode attention, const std::vector<models::BufferId>& buffers) {
  models::TaskGraph g;
  g.nodes = {{"a", models::NodeKind::comp}};
  for (std::int64_t c = 100; c < 150; ++c) {
    attention.context = c;
    g.tasks.push_back({0,
                       0,
                       static_cast<std::int32_t>(c),
                       models::Stage::attention,
                       models::Compute{attention, buffers},
                       {}});
  }
  const MachineSpec spec{small_gpu(), small_gpu(), {}};
  const KernelProfile p = profile_kernels(g, spec, {.jobs = 2}, pretend);
  std::uint64_t instances = 0;
  for (const KernelUse& k : p.kernels) instances += k.instances;
  CHECK(instances == 50);
  CHECK(p.kernels.size() < 10);
  for (std::size_t i = 0; i < 50; ++i)
    CHECK(p.duration_of_task[i] == Time::nanoseconds(1100 + static_cast<std::int64_t>(i)));
  CHECK(p.ci95_percent == Catch::Approx(0).margin(1e-9));
}

TEST_CASE("decode contexts are interpolated between three simulated ones") {
  check_interpolated(models::AttentionDecode{.heads = 1, .kv_heads = 1, .head_dim = 8}, {0, 1, 2, 3});
  check_interpolated(models::LatentDecode{.heads = 1, .latent = 8, .rope = 4}, {0, 0, 1, 2});
}

TEST_CASE("decode contexts that are alike are simulated once, the greatest, and that is said") {
  models::TaskGraph g;
  g.nodes = {{"a", models::NodeKind::comp}};
  for (const std::int64_t context : {100'000, 100'001, 100'050}) {
    g.tasks.push_back({0,
                       0,
                       0,
                       models::Stage::attention,
                       models::Compute{models::AttentionDecode{
                                           .context = context, .heads = 1, .kv_heads = 1, .head_dim = 8},
                                       {0, 1, 2, 3}},
                       {}});
  }
  const MachineSpec spec{small_gpu(), small_gpu(), {}};
  const auto contexts = [&](bool exact) {
    return profile_kernels(g, spec, {.exact = exact, .jobs = 1}, pretend);
  };
  const KernelProfile p = contexts(false), exact = contexts(true);
  REQUIRE(exact.kernels.size() == 3);
  // The first finds its cache cold, as in any run.
  CHECK(p.kernels.size() <= 2);
  CHECK(p.duration_of_task[1] == p.duration_of_task[2]);
  CHECK(p.duration_of_task[2] == exact.duration_of_task[2]);
  CHECK(p.ci95_percent > 0);
  CHECK(p.ci95_percent < 0.1 * 1.96);
}

TEST_CASE("the intervals of sampled kernels add up: those of one kernel's instances alike, of others not") {
  models::TaskGraph g;
  g.nodes = {{"a", models::NodeKind::comp}};
  // Eight times one kernel of 100 ns, on buffers never used before; once one of 600 ns.
  for (std::uint32_t i = 0; i < 9; ++i) {
    const models::Copy copy{i < 8 ? 100 : 600};
    g.tasks.push_back({0, 0, 0, models::Stage::attention, models::Compute{copy, {2 * i, 2 * i + 1}}, {}});
  }
  const MachineSpec spec{small_gpu(), small_gpu(), {}};
  const auto sampled = [](const KernelJob& job) {
    KernelResult r;
    const std::int64_t bytes = std::get<models::Copy>(job.op).bytes;
    r.latency = Time::nanoseconds(bytes);
    r.ci95_percent = bytes == 100 ? 3 : 4;
    return r;
  };
  const KernelProfile p = profile_kernels(g, spec, {.jobs = 2}, sampled);
  CHECK(p.ci95_percent == Catch::Approx(100 * std::hypot(24, 24) / 1400));
}

TEST_CASE("results cross the process boundary bit for bit, whatever the number of workers") {
  const GpuSpec gpu = small_gpu();
  std::vector<KernelJob> jobs;
  for (std::int64_t i = 1; i < 20; ++i) jobs.push_back({&gpu, models::Copy{i * 10}, {}, {}});
  const auto one = simulate_all(jobs, 1, pretend, {}), four = simulate_all(jobs, 4, pretend, {});
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const KernelResult direct = pretend(jobs[i]);
    for (const auto* r : {&one[i], &four[i]}) {
      CHECK(r->latency == direct.latency);
      CHECK(r->energy_j == direct.energy_j);
      CHECK(r->activity.at("HBM")[0].share == 0.25);
      CHECK(r->kernels == direct.kernels);
    }
  }
}

TEST_CASE(
    "kernels of GPUs of one name that differ are kept apart; a plan that is used again changes nothing") {
  models::TaskGraph g = copies({{{0, 1}, 300}});
  g.nodes.push_back({"b", models::NodeKind::attn});
  g.tasks.push_back({1, 0, -1, models::Stage::mlp, models::Compute{models::Copy{300}, {2, 3}}, {}});
  MachineSpec spec{small_gpu(), small_gpu(), {}, "x", "x"};
  CHECK(profile_kernels(g, spec, {.jobs = 1}, pretend).kernels.size() == 1);
  spec.attn_key = "y";
  CHECK(profile_kernels(g, spec, {.jobs = 1}, pretend).kernels.size() == 2);
  PlanMemory plans;
  RunOptions options{.memory = {nullptr, &plans, "g"}, .jobs = 1};
  for (const bool graph : {true, false, true}) {
    for (const std::int64_t l2 : {1000, 100, 1000}) {
      options.cuda_graph = graph;
      spec.comp_gpu.l2.bytes = spec.attn_gpu.l2.bytes = l2;
      const KernelProfile kept = profile_kernels(g, spec, options, pretend);
      CHECK(kept.duration_of_task ==
            profile_kernels(g, spec, {.jobs = 1, .cuda_graph = graph}, pretend).duration_of_task);
      CHECK(kept.kernels[0].instances == 1);
    }
  }
}

TEST_CASE("progress ends at everything done, and goes on while a long kernel runs") {
  const GpuSpec gpu = small_gpu();
  const std::vector<KernelJob> jobs{{&gpu, models::Copy{800}, {}, {}}, {&gpu, models::Copy{200}, {}, {}}};
  std::vector<WorkDone> reports;
  const Simulate slow = [](const KernelJob& job) {
    if (std::get<models::Copy>(job.op).bytes == 800)
      std::this_thread::sleep_for(std::chrono::milliseconds{700});
    return pretend(job);
  };
  (void)simulate_all(jobs, 1, slow, [&](const WorkDone& work) { reports.push_back(work); });
  REQUIRE(reports.size() >= 3);
  CHECK(reports.front().done == 0);
  CHECK(reports.front().what == "memcpy 800");
  CHECK(reports.front().share == 0);
  const WorkDone& first = reports[reports.size() - 2];
  CHECK(first.done == 1);
  // Nothing of the other's size has ended yet: it is expected to take as long.
  CHECK(first.share == Catch::Approx(0.5).margin(0.05));
  CHECK(reports.back().done == 2);
  CHECK(reports.back().share == Catch::Approx(1));
}

TEST_CASE("workers end with the run that started them, however it ends") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t run = fork();
  REQUIRE(run >= 0);
  if (run == 0) {
    const GpuSpec gpu = small_gpu();
    const Simulate endless = [&](const KernelJob&) -> KernelResult {
      (void)!write(ends[1], "x", 1);
      std::this_thread::sleep_for(std::chrono::minutes{1});
      return {};
    };
    (void)simulate_all({{&gpu, models::Copy{8}, {}, {}}}, 1, endless, {});
    _exit(0);
  }
  close(ends[1]);
  char byte = 0;
  REQUIRE(read(ends[0], &byte, 1) == 1);  // the worker is at work
  kill(run, SIGKILL);
  waitpid(run, nullptr, 0);
  pollfd closed{ends[0], POLLIN, 0};
  REQUIRE(poll(&closed, 1, 10'000) == 1);  // by the last process that held its other end
  REQUIRE(read(ends[0], &byte, 1) == 0);
  close(ends[0]);
}

TEST_CASE("a worker's failure is told, whatever it was") {
  const GpuSpec gpu = small_gpu();
  const std::vector<KernelJob> jobs{{&gpu, models::Copy{8}, {}, {}}};
  CHECK_THROWS_AS(
      simulate_all(jobs, 1, [](const KernelJob&) -> KernelResult { throw std::invalid_argument{"no"}; }, {}),
      std::invalid_argument);
  const auto message = [&](const Simulate& simulate) -> std::string {
    try {
      (void)simulate_all(jobs, 1, simulate, {});
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "";
  };
  CHECK(message([](const KernelJob&) -> KernelResult { throw std::runtime_error{"stuck"}; }) ==
        "memcpy 8: stuck");
  CHECK(message([](const KernelJob&) -> KernelResult {
          raise(SIGKILL);
          return {};
        }) == "memcpy 8: the worker process died of signal 9");
}

}  // namespace
}  // namespace tessera::sim
