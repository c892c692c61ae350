// tessera sweep and what reads its results, through the real binary.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/cli/command.hpp"

namespace tessera::cli_test {
namespace {

using Catch::Matchers::ContainsSubstring;

const std::string kSweep = R"(experiment: tiny_cascade
axes:
  workload.prefill_tokens: {range: [32, 256], step: 8}
  workload.batch: [1, 2]
  fabric: [nvlink4_nvswitch, infiniband_ndr]
objectives: {latency_us: min, energy_j: min}
constraints: [memory_fits == 1]
)";

std::string csv(const Workplace& place, const std::string& file) {
  const Outcome outcome = place.tessera({"export", file, "--csv", "-"});
  REQUIRE(outcome.exit_code == 0);
  return outcome.out;
}

std::string sweep(const Workplace& place, std::vector<std::string> more) {
  more.insert(more.begin(), "sweep");
  const Outcome outcome = place.tessera(more);
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  return outcome.out;
}

TEST_CASE("a sweep records every point, the same with any number of workers, whole or in shards") {
  const Workplace place;
  place.write("s.yaml", kSweep);
  CHECK_THAT(sweep(place, {"s.yaml", "--out", "one.db", "-j1"}), ContainsSubstring("116 rows"));
  sweep(place, {"s.yaml", "--out", "two.db", "-j2"});
  const std::string one = csv(place, "one.db");
  CHECK(std::count(one.begin(), one.end(), '\n') == 117);
  CHECK(csv(place, "two.db") == one);
  for (const char* i : {"0", "1", "2"})
    sweep(place,
          {"s.yaml", "--out", std::string{"part"} + i + ".db", "--shard", std::string{i} + "/3", "-j1"});
  const Outcome merged = place.tessera({"merge", "part0.db", "part1.db", "part2.db", "--out", "all.db"});
  REQUIRE(merged.exit_code == 0);
  CHECK(csv(place, "all.db") == one);
  require_bad_input(place.tessera({"sweep", "s.yaml", "--out", "one.db"}), {"one.db", "--resume"});
  require_bad_input(place.tessera({"sweep", "s.yaml", "--out", "x.db", "--shard", "3/3"}), {"--shard 3/3"});

  // What tessera run says of a point is what its row says.
  const nlohmann::json rows = parse(place.tessera({"export", "one.db", "--json", "-"}).out);
  const nlohmann::json run =
      parse(place
                .tessera({"run", "tiny_cascade", "--fidelity", "cost", "--set", "workload.prefill_tokens=40",
                          "--set", "workload.batch=2", "--set", "fabric=infiniband_ndr", "--json", "-"})
                .out);
  const nlohmann::json& row = rows.at(7);
  CHECK(row.at("metrics").at("latency_us") == run.at("latency_us"));
  CHECK(row.at("metrics").at("energy_j") == run.at("energy_j"));
  CHECK(row.at("metrics").at("cost_usd") == run.at("cost_usd"));
  CHECK(row.at("config_hash") == run.at("config_hash"));
  CHECK(row.at("bottleneck") == run.at("bottleneck"));

  const nlohmann::json front = parse(place.tessera({"pareto", "one.db", "--json", "-"}).out);
  REQUIRE(front.at("front").size() >= 1);
  CHECK(front.at("front")[0].at("axes").at("workload.prefill_tokens") == "32");
  const Outcome compared = place.tessera({"compare", "one.db#0", "one.db#115"});
  CHECK_THAT(compared.out,
             ContainsSubstring("workload.prefill_tokens") && ContainsSubstring("prefill stage"));
}

TEST_CASE("a killed sweep resumes with nothing lost and nothing done twice") {
  const Workplace place;
  place.write("s.yaml", kSweep);
  sweep(place, {"s.yaml", "--out", "whole.db", "-j2"});
  std::filesystem::current_path(place.folder());
  for (const int ms : {30, 60, 90}) {
    const pid_t child = fork();
    if (child == 0) {
      if (std::freopen("/dev/null", "w", stdout) == nullptr ||
          std::freopen("/dev/null", "w", stderr) == nullptr)
        _exit(126);
      execl(TESSERA_BINARY, "tessera", "sweep", "s.yaml", "--out", "killed.db", "-j2", "--resume", nullptr);
      _exit(127);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds{ms});
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
  std::filesystem::current_path("/");
  sweep(place, {"s.yaml", "--out", "killed.db", "-j2", "--resume"});
  CHECK(csv(place, "killed.db") == csv(place, "whole.db"));
  const std::string before = place.tessera({"export", "killed.db", "--csv", "-", "--wall"}).out;
  sweep(place, {"s.yaml", "--out", "killed.db", "-j1", "--resume"});
  CHECK(place.tessera({"export", "killed.db", "--csv", "-", "--wall"}).out == before);
}

TEST_CASE("what is no file of results, or a damaged one, is refused") {
  const Workplace place;
  place.write(
      "s.yaml",
      "kernel: {kind: gemm, hardware: h200_sxm, n: 256, k: 256}\naxes: {m: {range: [8, 800], step: 8}}\n");
  sweep(place, {"s.yaml", "--out", "r.db", "-j1"});
  const std::string whole = place.read("r.db");
  place.write("cut.db", whole.substr(0, whole.size() / 2));
  std::string changed = whole;
  for (std::size_t i = changed.size() / 4; i < changed.size(); ++i)
    changed[i] = static_cast<char>(~changed[i]);
  place.write("changed.db", changed);
  for (const std::string file : {"cut.db", "changed.db", "s.yaml"}) {
    require_bad_input(place.tessera({"export", file, "--csv", "-"}), {file});
    require_bad_input(place.tessera({"pareto", file, "--objectives", "latency_us:min"}), {file});
    require_bad_input(place.tessera({"compare", file + "#0", "r.db#1"}), {file});
    require_bad_input(place.tessera({"merge", file, "--out", "m.db"}), {file});
  }
  place.write("empty.db", "");
  require_bad_input(place.tessera({"export", "empty.db", "--csv", "-"}),
                    {"empty.db", "no results of a sweep"});
  require_bad_input(place.tessera({"compare", "r.db#0", "r.db#100"}),
                    {"r.db#100", "100 rows, from #0 to #99, fidelity cost"});
  require_bad_input(place.tessera({"pareto", "r.db", "--objectives", "energy:min"}),
                    {"'energy' is no metric", "energy_j"});
  require_bad_input(place.tessera({"pareto", "r.db", "--fidelity", "cyle", "--objectives", "latency_us"}),
                    {"--fidelity", "cyle"});
}

TEST_CASE("a point that fails is a row, and the sweep goes on") {
  const Workplace place;
  place.write("s.yaml",
              "experiment: tiny_cascade\naxes:\n  fabric.packet_bytes: [4096, 262144]\n  "
              "fabric.buffer_bytes: [131072, 524288]\n");
  const std::string said = sweep(place, {"s.yaml", "--out", "r.db"});
  const nlohmann::json rows = parse(place.tessera({"export", "r.db", "--json", "-"}).out);
  REQUIRE(rows.size() == 4);
  // A buffer must hold a packet: only one of the four cannot be.
  for (std::size_t i = 0; i < 4; ++i) CHECK(rows[i].at("status") == (i == 2 ? "failed" : "ok"));
  CHECK_THAT(rows[2].at("error").get<std::string>(), ContainsSubstring("must hold at least one packet"));
  CHECK_THAT(said, ContainsSubstring("3 cost ok"));
}

TEST_CASE("a slip in an axis ends the sweep before its first point") {
  const Workplace place;
  place.write("s.yaml",
              "experiment: tiny_cascade\naxes:\n  workload.batch: [1]\n  hardware.comp.l2.byte: [1M]\n");
  require_bad_input(place.tessera({"sweep", "s.yaml", "--out", "r.db"}),
                    {"s.yaml:4: axes.hardware.comp.l2.byte", "did you mean 'bytes'?"});
  CHECK_FALSE(std::filesystem::exists(place.folder() / "r.db"));
}

TEST_CASE("what no point can do without ends the sweep before its first point") {
  const Workplace place;
  place.write("k.yaml", "kernel: {kind: gemm, hardware: h200_sxm, n: 64}\naxes: {m: [16, 32]}\n");
  require_bad_input(place.tessera({"sweep", "k.yaml", "--out", "r.db"}),
                    {"no point can be run", "missing k"});
  place.write(
      "e.yaml",
      "experiment: tiny_cascade\nset: {workload.prefill_tokens: 0}\naxes: {workload.batch: [1, 2]}\n");
  require_bad_input(place.tessera({"sweep", "e.yaml", "--out", "r.db"}),
                    {"no point can be run", "prefill_tokens: must be at least 1"});
  CHECK_FALSE(std::filesystem::exists(place.folder() / "r.db"));
}

TEST_CASE("a sweep's rows are what run says, neighbours or not, with GPUs of one name that differ") {
  const Workplace place;
  place.write("s.yaml",
              "experiment: tiny_cascade\naxes:\n  launch: [graph, host]\n  workload.batch: [1, 2]\n"
              "  hardware.comp.l2.hit_latency: [200, 900]\n");
  sweep(place, {"s.yaml", "--out", "r.db", "-j1"});
  const nlohmann::json rows = parse(place.tessera({"export", "r.db", "--json", "-"}).out);
  REQUIRE(rows.size() == 8);
  for (const auto& row : rows) {
    std::vector<std::string> words{"run", "tiny_cascade", "--fidelity", "cost", "--json", "-"};
    for (const auto& [key, value] : row.at("axes").items()) {
      words.emplace_back("--set");
      words.push_back(key + "=" + value.get<std::string>());
    }
    const nlohmann::json run = parse(place.tessera(words).out);
    INFO(row.at("axes").dump());
    CHECK(row.at("metrics").at("latency_us").get<double>() == run.at("latency_us").get<double>());
    CHECK(row.at("metrics").at("energy_j").get<double>() == run.at("energy_j").get<double>());
  }
}

TEST_CASE("a funnel looks at the front and beside it in cycle detail") {
  const Workplace place;
  place.write("s.yaml",
              "kernel: {kind: gemm, hardware: h200_sxm, n: 256, k: 256}\nfidelity: funnel\n"
              "axes: {m: [128, 256, 384, 512, 640, 768]}\nobjectives: {latency_us: min}\n");
  sweep(place, {"s.yaml", "--out", "r.db"});
  const nlohmann::json rows = parse(place.tessera({"export", "r.db", "--json", "-"}).out);
  std::size_t cycle = 0;
  for (const auto& row : rows) cycle += row.at("fidelity") == "cycle" ? 1 : 0;
  CHECK(rows.size() == 6 + cycle);
  CHECK(cycle >= 2);
  CHECK(cycle <= 5);
}

/// `axes`: of the experiment, ten points of which are run by both models.
void require_near(const std::string& experiment, const std::string& axes) {
  const Workplace place;
  const auto rows = [&](const std::string& fidelity) {
    place.write(fidelity + ".yaml", "experiment: " + experiment + "\nfidelity: " + fidelity + "\naxes:\n" +
                                        axes + "design: {method: random, points: 10, seed: 5}\n");
    sweep(place, {fidelity + ".yaml", "--out", fidelity + ".db"});
    return parse(place.tessera({"export", fidelity + ".db", "--json", "-"}).out);
  };
  const nlohmann::json a = rows("cycle"), b = rows("cost");
  REQUIRE(a.size() == 10);
  REQUIRE(b.size() == 10);
  for (const char* metric : {"latency_us", "energy_j"}) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double x = a[i].at("metrics").at(metric), y = b[i].at("metrics").at(metric);
      INFO(metric << " of point " << i << ": cycle " << x << ", cost " << y);
      CHECK(std::abs(y / x - 1) < 0.1);
      sum += std::abs(y / x - 1);
    }
    INFO(metric);
    CHECK(100 * sum / 10 < 5);
  }
}

TEST_CASE("the cost model of a run keeps to the cycle model on a random sample of small workloads") {
  require_near("tiny_cascade", R"(  workload.prefill_tokens: {log_range: [64, 2048], count: 6}
  workload.decode_steps: [0, 1]
  workload.batch: [1, 4]
  model.layers: [1, 2]
  model.intermediate: [512, 2048, 4096]
  hardware.comp.hbm.stacks: [3, 6]
  fabric: [nvlink4_nvswitch, infiniband_ndr, ethernet_100g_lan]
)");
}

TEST_CASE("and of KDA and MLA layers with experts") {
  require_near("tiny_kimi_cascade", R"(  workload.prefill_tokens: {log_range: [64, 1024], count: 5}
  workload.decode_steps: [0, 1]
  workload.batch: [1, 4]
  hardware.comp.hbm.stacks: [3, 6]
  fabric: [nvlink4_nvswitch, infiniband_ndr, ethernet_100g_lan]
)");
}

TEST_CASE("sweep --around ranks what a run is sensitive to") {
  const Workplace place;
  const nlohmann::json all = parse(place.tessera({"sweep", "--around", "tiny_cascade", "--json", "-"}).out);
  const auto& parameters = all.at("parameters");
  REQUIRE(parameters.size() > 50);
  // A tiny model is all launches: graph_launch_us matters, the size of the HBM does not.
  const auto of = [&](const std::string& key) {
    for (const auto& p : parameters) {
      if (p.at("key") == key) return p;
    }
    FAIL(key);
    return parameters[0];
  };
  CHECK(of("gpu launch.graph_launch_us").at("elasticity").get<double>() > 0.1);
  CHECK(of("gpu hbm.capacity_bytes").at("elasticity") == 0);
  CHECK(of("fabric link_latency_ns").at("elasticity").get<double>() > 0);
}

TEST_CASE("ranks of an MPI job write what processes write") {
  const std::filesystem::path program = std::filesystem::path{TESSERA_BINARY}.parent_path() / "tessera_mpi";
  if (!std::filesystem::exists(program) || std::system("command -v mpirun > /dev/null") != 0)
    SKIP("MPI is not there");
  const Workplace place;
  place.write("s.yaml", kSweep);
  sweep(place, {"s.yaml", "--out", "one.db", "-j1"});
  // What Open MPI itself never frees is not looked for in a sanitized build.
  const std::string command = "cd " + place.folder().string() +
                              " && ASAN_OPTIONS=detect_leaks=0 OMPI_ALLOW_RUN_AS_ROOT=1 "
                              "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --oversubscribe -n 3 " +
                              TESSERA_BINARY + " sweep s.yaml --out mpi.db --mpi > out.txt 2>&1";
  REQUIRE(std::system(command.c_str()) == 0);
  CHECK(csv(place, "mpi.db") == csv(place, "one.db"));
}

}  // namespace
}  // namespace tessera::cli_test
