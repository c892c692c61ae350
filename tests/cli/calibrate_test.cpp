#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <fstream>
#include <iterator>
#include <regex>

#include "tests/cli/command.hpp"

using namespace tessera::cli_test;
using Catch::Approx;

namespace {

const std::string kH200 = std::string{TESSERA_SOURCE_DIR} + "/configs/hardware/h200_sxm.yaml";

std::string rows_text(const std::vector<double>& us) {
  std::string text;
  std::size_t i = 0;
  for (const int m : {16, 64, 128}) {
    for (const int k : {64, 256, 512})
      text += fmt::format(
          "{{\"kind\": \"gemm\", \"args\": {{\"m\": {}, \"n\": 128, \"k\": {}}}, \"latency_us\": "
          "{{\"median\": {}}}}}\n",
          m, k, us.empty() ? 1 : us[i++]);
  }
  return text;
}

/// An H200 that takes `launch_us` between kernels, which is fitted; whatever the file holds at present.
std::string hardware_text(const std::string& launch_us) {
  std::ifstream in{kH200, std::ios::binary};
  const std::string text{std::istreambuf_iterator<char>{in}, {}};
  return std::regex_replace(
      text, std::regex{R"(graph_launch_us: \{.*\})"},
      "graph_launch_us: {value: " + launch_us + R"(, source: "a test", fitted: true, bounds: [0.2, 2]})");
}

/// base.yaml; and rows.jsonl: tiny GEMMs as it would take them with `launch_us` between kernels.
void write_rows(const Workplace& work, const std::string& launch_us) {
  work.write("base.yaml", hardware_text("0.9"));
  work.write("truth.yaml", hardware_text(launch_us));
  work.write("rows.jsonl", rows_text({}));
  const Outcome outcome = work.tessera({"validate", "rows.jsonl", "--hardware", "truth.yaml", "--json", "-"});
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  std::vector<double> us;
  const nlohmann::json json = parse(outcome.out);
  for (const auto& row : json["rows"]) us.push_back(row["predicted_us"]);
  work.write("rows.jsonl", rows_text(us));
}

std::vector<std::string> calibrate(std::vector<std::string> words) {
  words.insert(words.begin(), {"calibrate", "rows.jsonl"});
  return words;
}

const std::vector<std::string> kUsual{"--hardware", "base.yaml", "--parameters", "launch.graph_launch_us",
                                      "--folds",    "3"};

std::vector<std::string> usual(std::vector<std::string> more) {
  std::vector<std::string> words = kUsual;
  words.insert(words.end(), more.begin(), more.end());
  return calibrate(words);
}

}  // namespace

TEST_CASE(
    "calibrate finds the hardware that the rows were taken from, and its file gives predictions error bars") {
  const Workplace work;
  write_rows(work, "1.5");
  const Outcome outcome = work.tessera(usual({"--out", "mine.yaml", "--json", "c.json"}));
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  for (const char* word : {"launch.graph_launch_us", "0.2 to 2", "std. error", "gemm: before", "gemm: fitted",
                           "gemm: held out", "written to mine.yaml"}) {
    INFO(word);
    CHECK(outcome.out.find(word) != std::string::npos);
  }
  const nlohmann::json json = parse(work.read("c.json"));
  REQUIRE(json["parameters"].size() == 1);
  CHECK(json["parameters"][0]["value"].get<double>() == Approx(1.5).epsilon(0.02));
  CHECK(json["parameters"][0]["unconstrained"] == false);
  CHECK(json["kinds"]["gemm"]["before"]["mape_percent"] > 10);
  CHECK(json["kinds"]["gemm"]["fitted"]["mape_percent"] < 1);
  CHECK(json["kinds"]["gemm"]["held_out"]["mape_percent"] < 1.5);
  CHECK(json["rows"] == 9);

  // The file is hardware like any other.
  const auto kernel = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"kernel", "gemm"});
    words.insert(words.end(), {"--hardware", "mine.yaml", "--json", "-"});
    const Outcome run = work.tessera(words);
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    return parse(run.out);
  };
  const nlohmann::json inside = kernel({"m=64", "n=128", "k=128"});
  CHECK(inside["hardware"] == "mine");
  CHECK(inside["calibration"] == "calibrated");
  const nlohmann::json& bar = inside["error_bar"];
  CHECK(bar["percent"] > 0);
  CHECK(bar["percent"] < 5);
  CHECK(bar["low_us"] < inside["latency_us"]);
  CHECK(bar["high_us"].get<double>() ==
        Approx(inside["latency_us"].get<double>() * (1 + bar["percent"].get<double>() / 100)));
  CHECK(bar["held_out"]["count"] == 9);
  const nlohmann::json outside = kernel({"m=512", "n=512", "k=512"});
  CHECK(outside["calibration"] == "outside the calibrated range");
  CHECK(outside["error_bar"]["reasons"].size() == 2);
  const nlohmann::json changed = kernel({"m=64", "n=128", "k=128", "--set", "l2.hit_latency=300"});
  CHECK(changed["calibration"] == "uncalibrated");
  CHECK(changed["error_bar"]["percent"].is_null());
  const Outcome text = work.tessera({"kernel", "gemm", "m=64", "n=128", "k=128", "--hardware", "mine.yaml"});
  CHECK(text.out.find("% (95 %, from 9 gemm rows held out") != std::string::npos);

  // A run says how much of it stands on the calibration.
  const Outcome run = work.tessera({"run", "tiny_cascade", "--set", "hardware.comp=./mine.yaml", "--set",
                                    "hardware.attn=./mine.yaml", "--json", "-"});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const nlohmann::json result = parse(run.out);
  const nlohmann::json& e = result["error_bar"];
  CHECK(e["calibrated_share"].get<double>() + e["outside_share"].get<double>() > 0.05);
  CHECK(e["uncalibrated_share"] > 0.1);
  CHECK(e["calibrated_share"].get<double>() + e["outside_share"].get<double>() +
            e["uncalibrated_share"].get<double>() ==
        Approx(1).epsilon(1e-3));
  CHECK(e["percent"] > 0);
  bool network = false;
  for (const auto& part : e["parts"])
    network |= part["kind"] == "network" && part["standing"] == "uncalibrated";
  CHECK(network);
  std::size_t known = 0;
  for (const auto& k : result["kernels"]) {
    CHECK(k["error_percent"].is_null() == (k["calibration"] == "uncalibrated"));
    known += k["error_percent"].is_null() ? 0 : 1;
  }
  CHECK(known > 0);
  CHECK(result["calibration"]["comp"] == "calibrated (cycle: 9 rows)");
}

TEST_CASE("calibrate writes the same file at any number of workers") {
  const Workplace work;
  write_rows(work, "1.5");
  CHECK(work.tessera(usual({"--out", "a.yaml", "-j", "1", "--seed", "4"})).exit_code == 0);
  const std::string one = work.read("a.yaml");
  CHECK(work.tessera(usual({"--out", "a.yaml", "-j", "3", "--seed", "4"})).exit_code == 0);
  CHECK(work.read("a.yaml") == one);
  CHECK(one.find("seed: 4") != std::string::npos);
  CHECK(work.files() == std::vector<std::string>{"a.yaml", "base.yaml", "rows.jsonl", "truth.yaml"});
}

TEST_CASE("calibrate without iterations records how well a file predicts, and changes no number") {
  const Workplace work;
  write_rows(work, "0.9");
  const Outcome outcome = work.tessera(
      calibrate({"--hardware", "base.yaml", "--max-iterations", "0", "--out", "r.yaml", "--json", "-"}));
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  const nlohmann::json json = parse(outcome.out);
  CHECK_FALSE(json["parameters"].empty());
  for (const auto& p : json["parameters"]) CHECK(p["value"] == p["before"]);
  CHECK(json["kinds"]["gemm"]["held_out"]["mape_percent"] < 0.01);
  CHECK(json["simulated"] == 9);

  // Without --out: beside the file that it begins with, and beside that one's base if that was such a file.
  for (const char* hardware : {"base.yaml", "base.calibrated.yaml"}) {
    const Outcome beside = work.tessera(calibrate({"--hardware", hardware, "--max-iterations", "0"}));
    INFO(beside.err);
    REQUIRE(beside.exit_code == 0);
    CHECK(beside.out.find("base.calibrated.yaml") != std::string::npos);
  }
  CHECK(work.read("base.calibrated.yaml").find("name: base.calibrated\n") != std::string::npos);
  CHECK(work.files() ==
        std::vector<std::string>{"base.calibrated.yaml", "base.yaml", "r.yaml", "rows.jsonl", "truth.yaml"});
}

TEST_CASE("calibrate names what these rows do not depend on") {
  const Workplace work;
  write_rows(work, "1.2");
  const Outcome outcome = work.tessera(
      calibrate({"--hardware", "base.yaml", "--parameters",
                 "launch.graph_launch_us,power.tensor_zero_share=0:1", "--folds", "2", "--out", "r.yaml"}));
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  CHECK(outcome.out.find("no effect on any row") != std::string::npos);
}

TEST_CASE("calibrate complains about its input in one line, before it simulates, and writes nothing") {
  const Workplace work;
  work.write("base.yaml", hardware_text("0.9"));
  work.write("rows.jsonl", rows_text({}));
  const std::string all = rows_text({});
  work.write("two.jsonl", all.substr(0, all.find('\n', all.find('\n') + 1)));
  const auto run = [&](std::vector<std::string> words) {
    if (std::find(words.begin(), words.end(), "--out") == words.end())
      words.insert(words.end(), {"--out", "o.yaml"});
    if (std::find(words.begin(), words.end(), "--hardware") == words.end())
      words.insert(words.end(), {"--hardware", "base.yaml"});
    return work.tessera(calibrate(words));
  };
  require_bad_input(run({"--parameters", "launch.graph_launch"}), {"did you mean 'launch.graph_launch_us'?"});
  require_bad_input(run({"--parameters", "nothing.alike"}), {"fitted are: "});
  require_bad_input(run({"--parameters", "l2.hit_latency"}),
                    {"l2.hit_latency", "has no bounds", "=LOW:HIGH"});
  require_bad_input(run({"--parameters", "l2.hit_latency=300:100"}), {"lower bound comes first"});
  require_bad_input(run({"--parameters", "l2.hit_latency=100"}), {"expected KEY or KEY=LOW:HIGH"});
  require_bad_input(run({"--parameters", "l2.hit_latency=3000:4000"}), {"its value, ", "lies outside"});
  require_bad_input(run({"--parameters", "sm.max_ctas=8:64"}),
                    {"sm.max_ctas cannot be varied", "expected an integer"});
  require_bad_input(run({"--parameters", "power.idle_w=50:900"}),
                    {"power.idle_w cannot be varied", "must lie below cap_w"});
  require_bad_input(run({"--parameters", "launch.graph_launch_us,launch.graph_launch_us"}), {"given twice"});
  require_bad_input(run({"--hardware", "h20"}), {"no hardware is called 'h20'"});
  require_bad_input(run({"--out", "o.json"}), {"--out o.json: expected a .yaml file"});
  require_bad_input(run({"--out", "no/such/o.yaml"}), {"no/such/o.yaml"});
  require_bad_input(run({"--folds", "1"}), {"--folds"});
  require_bad_input(run({"--kinds", "gem"}), {"did you mean 'gemm'?"});
  require_bad_input(run({"--fidelity", "cots"}), {"--fidelity cots"});
  require_bad_input(run({"missing.jsonl"}), {"missing.jsonl: no such file"});
  require_bad_input(run({"--folds", "20", "--max-iterations", "0"}), {"20 folds need"});
  const Outcome few =
      work.tessera({"calibrate", "two.jsonl", "--hardware", "base.yaml", "--out", "o.yaml", "--folds", "2"});
  require_bad_input(few, {"parameters need more rows than"});
  CHECK(work.files() == std::vector<std::string>{"base.yaml", "rows.jsonl", "two.jsonl"});
}
