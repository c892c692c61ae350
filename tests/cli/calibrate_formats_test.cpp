// Every layout of measurements through `tessera calibrate`: rows as the simulator has them at a lower clock,
// which is found again. In closed form, so that it takes moments.

#include <fmt/format.h>
#include <sqlite3.h>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <regex>

#include "tests/cli/command.hpp"

using namespace tessera::cli_test;
using Catch::Approx;

namespace {

/// Writes a file of rows with these times, in microseconds; before any are known, with 1.
using Write = std::function<void(const Workplace&, const std::function<double()>& next_us)>;

void check_found(const std::string& file, std::size_t rows, const Write& write) {
  const Workplace work;
  std::ifstream in{std::string{TESSERA_SOURCE_DIR} + "/configs/hardware/h200_sxm.yaml", std::ios::binary};
  // One of its twelve fitted numbers makes way for the clock, which is written anew; where each stands does
  // not matter.
  const std::string text{std::istreambuf_iterator<char>{in}, {}},
      base = std::regex_replace(
          text, std::regex{R"((copy_chunk_cycles: .*)fitted: true, bounds: \[[^\]]*\])"}, "$1estimate: true");
  work.write("base.yaml", base);
  work.write("truth.yaml", std::regex_replace(base, std::regex{R"(boost_clock_mhz: \{value: [0-9.]+)"},
                                              "boost_clock_mhz: {value: 1500"));
  write(work, [] { return 1.0; });
  const Outcome truth =
      work.tessera({"validate", file, "--hardware", "truth.yaml", "--fidelity", "cost", "--json", "-"});
  INFO(truth.err);
  REQUIRE(truth.exit_code == 0);
  const nlohmann::json predicted = parse(truth.out)["rows"];
  REQUIRE(predicted.size() == rows);
  std::size_t at = 0;
  write(work, [&] { return predicted.at(at++)["predicted_us"].get<double>(); });
  CHECK(at == rows);
  const Outcome outcome =
      work.tessera({"calibrate", file, "--hardware", "base.yaml", "--fidelity", "cost", "--parameters",
                    "boost_clock_mhz=1200:1980", "--folds", "3", "--out", "mine.yaml", "--json", "-"});
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  const nlohmann::json json = parse(outcome.out);
  CHECK(json["rows"] == rows);
  CHECK(json["parameters"][0]["value"].get<double>() == Approx(1500).epsilon(0.02));
  CHECK(json["parameters"][0]["unconstrained"] == false);
  CHECK(json["kinds"]["gemm"]["before"]["mape_percent"] > 3);
  CHECK(json["kinds"]["gemm"]["held_out"]["mape_percent"] < 1.5);
  CHECK(work.read("mine.yaml").find("calibration:") != std::string::npos);
}

/// The closed form picks the same tile for them at most clocks: a fit can stop at a step where another is
/// chosen.
struct Shape {
  int m, n, k;
};
const std::vector<Shape> kShapes{{256, 4096, 512},  {256, 4096, 1024},  {256, 4096, 4096},
                                 {512, 2048, 512},  {512, 2048, 1024},  {512, 2048, 4096},
                                 {768, 3072, 1024}, {1536, 1024, 1024}, {1536, 1024, 2048}};

}  // namespace

TEST_CASE("calibrate takes AIConfigurator's layout") {
  check_found("gemm_bf16.csv", 9, [](const Workplace& work, const std::function<double()>& next_us) {
    std::string text = "m,n,k,latency\n";
    for (const auto& [m, n, k] : kShapes) text += fmt::format("{},{},{},{:.9f}\n", m, n, k, next_us() * 1e-3);
    work.write("gemm_bf16.csv", text);
  });
}

TEST_CASE("calibrate takes Vidur's layout") {
  check_found("mlp.csv", 12, [](const Workplace& work, const std::function<double()>& next_us) {
    std::string text =
        "n_head,n_kv_head,n_embd,n_expanded_embd,use_gated_mlp,num_tokens,num_tensor_parallel_workers,"
        "time_stats.attn_pre_proj.median,time_stats.attn_post_proj.median,time_stats.mlp_up_proj.median,"
        "time_stats.mlp_down_proj.median\n";
    // Short enough for the power limit not to hide the clock, and alike at most clocks.
    for (const int m : {640, 768, 896}) {
      text += fmt::format("8,8,1024,1536,True,{},1", m);
      for (int i = 0; i < 4; ++i) text += fmt::format(",{:.9f}", next_us() * 1e-3);
      text += "\n";
    }
    work.write("mlp.csv", text);
  });
}

TEST_CASE("calibrate takes Nsight Systems' export") {
  check_found("mine.sqlite", 9, [](const Workplace& work, const std::function<double()>& next_us) {
    // Two calls of each, the first slower; in the order of the ranges' texts.
    std::map<std::string, double> ranges;
    for (const auto& [m, n, k] : kShapes) ranges[fmt::format("tessera gemm m={} n={} k={}", m, n, k)];
    std::string sql =
        "CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT);"
        "CREATE TABLE NVTX_EVENTS (start INT, end INT, eventType INT, text TEXT, textId INT, globalTid INT);"
        "CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INT, end INT, globalTid INT, correlationId INT);"
        "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INT, end INT, correlationId INT);";
    std::int64_t at = 0;
    int id = 0;
    for (auto& [name, us] : ranges) {
      us = next_us();
      for (const double slower : {3.0, 1.0}) {
        const auto ns = static_cast<std::int64_t>(us * slower * 1e3 + 0.5);
        ++id;
        sql += fmt::format(
            "INSERT INTO NVTX_EVENTS VALUES ({0}, {1}, 59, '{2}', NULL, 1);"
            "INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES ({3}, {4}, 1, {5});"
            "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES ({6}, {7}, {5});",
            at, at + 100, name, at + 10, at + 20, id, at + 50, at + 50 + ns);
        at += 1'000'000'000;
      }
    }
    const std::filesystem::path file = work.folder() / "mine.sqlite";
    std::filesystem::remove(file);
    sqlite3* database = nullptr;
    REQUIRE(sqlite3_open(file.c_str(), &database) == SQLITE_OK);
    CHECK(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK);
    sqlite3_close(database);
  });
}

TEST_CASE("calibrate takes the rows that tessera measure wrote") {
  // Measured by the emulated device, whose times are a formula: a fit runs from end to end, and finds what it
  // finds.
  const Workplace work;
  work.write("s.yaml",
             "name: s\ntiming: {warm_up_ms: 1, sample_ms: 0.1, samples: 5}\nruns:\n"
             "  a: {kernel: \"gemm m=64,256,1024 n=2048 k=512,1024,4096\"}\n");
  const Outcome measured = work.tessera({"measure", "./s.yaml", "--device", "emulated", "--out", "f.jsonl"});
  INFO(measured.err);
  REQUIRE(measured.exit_code == 0);
  const Outcome outcome =
      work.tessera({"calibrate", "f.jsonl", "--hardware", "h200_sxm", "--fidelity", "cost", "--parameters",
                    "launch.graph_launch_us", "--folds", "3", "--out", "mine.yaml", "--json", "-"});
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  const nlohmann::json json = parse(outcome.out);
  CHECK(json["rows"] == 9);
  CHECK(json["kinds"]["gemm"]["fitted"]["mape_percent"] <= json["kinds"]["gemm"]["before"]["mape_percent"]);
  const Outcome kernel = work.tessera({"kernel", "gemm", "m=256", "n=2048", "k=1024", "--hardware",
                                       "mine.yaml", "--fidelity", "cost", "--json", "-"});
  REQUIRE(kernel.exit_code == 0);
  CHECK(parse(kernel.out)["calibration"] == "calibrated");
}
