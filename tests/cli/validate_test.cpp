#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "tests/cli/command.hpp"

using namespace tessera::cli_test;

namespace {

const std::string kData = std::string{TESSERA_SOURCE_DIR} + "/tests/validate/data";

std::vector<std::string> validate(std::vector<std::string> words) {
  words.insert(words.begin(), "validate");
  words.insert(words.end(), {"--hardware", "h200_sxm"});
  return words;
}

}  // namespace

TEST_CASE("validate --json - has the fixed keys for every kind, and nothing else is printed") {
  const Workplace work;
  const Outcome outcome = work.tessera(validate({kData, "--json", "-"}));
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  const nlohmann::json json = parse(outcome.out);
  CHECK(json["hardware"] == "h200_sxm");
  CHECK(json["fidelity"] == "cycle");
  CHECK(json["wall_s"].is_number());
  REQUIRE(json["kinds"].size() == 4);
  for (const char* kind : {"gemm", "attention_prefill", "attention_decode", "norm"}) {
    INFO(kind);
    for (const char* key : {"count", "mape_percent", "median_ape_percent", "p90_ape_percent",
                            "max_ape_percent", "bias_percent"})
      REQUIRE(json["kinds"][kind][key].is_number());
  }
  CHECK(json["kinds"]["gemm"]["count"] == 5);
  CHECK(json["groups"]["gemm_large"]["count"] == 1);
  CHECK(json["files"].size() == 4);
  REQUIRE(json["rows"].size() == 9);
  // 64x256x128 is there three times, once without a number of calls: replayed without end.
  CHECK(json["simulated"] == 8);
  REQUIRE(json["skipped"].size() == 2);
  CHECK(json["skipped"][0]["kind"] == "all_reduce");
  CHECK(json["skipped"][1]["reason"] == "kernel triton is not simulated");
  for (const auto& row : json["rows"]) {
    const double measured = row["measured_us"], predicted = row["predicted_us"], error = row["error_percent"];
    CHECK(std::abs(100 * (predicted - measured) / measured - error) < 1e-9);
  }
  CHECK(work.files().empty());
}

TEST_CASE("validate --fidelity cost compares the same rows, twice alike") {
  const Workplace work;
  const auto run = [&](const char* fidelity) {
    return parse(work.tessera(validate({kData, "--json", "-", "--fidelity", fidelity})).out);
  };
  nlohmann::json cost = run("cost"), again = run("cost");
  const nlohmann::json cycle = run("cycle");
  cost.erase("wall_s");
  again.erase("wall_s");
  CHECK(cost.dump() == again.dump());
  CHECK(cost["fidelity"] == "cost");
  REQUIRE(cost["rows"].size() == cycle["rows"].size());
  for (std::size_t i = 0; i < cost["rows"].size(); ++i) {
    const nlohmann::json &a = cost["rows"][i], &b = cycle["rows"][i];
    CHECK(a["args"] == b["args"]);
    CHECK(a["kernels"] == b["kernels"]);
    CHECK(std::abs(a["predicted_us"].get<double>() / b["predicted_us"].get<double>() - 1) < 0.3);
  }
}

TEST_CASE("validate gives the same result at any number of workers, and the same sample for the same seed") {
  const Workplace work;
  const auto run = [&](const char* workers, const char* seed) {
    nlohmann::json json = parse(
        work.tessera(validate({kData, "--json", "-", "-j", workers, "--sample", "2", "--seed", seed})).out);
    json.erase("wall_s");
    return json;
  };
  const nlohmann::json one = run("1", "3");
  CHECK(one["kinds"]["gemm"]["count"] == 2);
  CHECK(one == run("4", "3"));
}

TEST_CASE(
    "validate prints a table per kind, the worst rows and what was left out, and writes its files whole") {
  const Workplace work;
  const Outcome outcome = work.tessera(
      validate({kData, "--kinds", "gemm,attention_prefill", "--json", "r.json", "--plot", "r.html"}));
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  for (const char* word : {"MAPE", "bias", "gemm, n and k at least 1024", "Worst of gemm", "gemm.csv:5",
                           "m=256 n=1024 k=1024", "Not compared", "kernel triton is not simulated"}) {
    INFO(word);
    CHECK(outcome.out.find(word) != std::string::npos);
  }
  CHECK(outcome.out.find("norm") == std::string::npos);
  CHECK(work.files() == std::vector<std::string>{"r.html", "r.json"});
  const std::string page = work.read("r.html");
  CHECK(page.find("Chart.js v3") != std::string::npos);
  CHECK(page.rfind("</html>") != std::string::npos);
}

TEST_CASE("validate exits with 3 when a kind is out of tolerance, after writing what it found") {
  const Workplace work;
  work.write("fast.csv", "m,n,k,latency\n64,256,128,0.000001\n");
  const Outcome over = work.tessera(validate({"fast.csv", "--max-mape", "50", "--json", "r.json"}));
  CHECK(over.exit_code == 3);
  CHECK(over.err.find("out of tolerance: --max-mape 50: gemm has ") != std::string::npos);
  CHECK(parse(work.read("r.json"))["kinds"]["gemm"]["count"] == 1);
  CHECK(work.tessera(validate({"fast.csv", "--max-mape", "1e9"})).exit_code == 0);
}

TEST_CASE("validate compares what no kernel supports with nothing, and says so") {
  const Workplace work;
  work.write(
      "f.jsonl",
      R"({"kind":"gemm","args":{"m":64,"n":64,"k":64},"latency_us":{"median":3}})"
      "\n"
      R"({"kind":"attention_prefill","args":{"seq":64,"heads":2,"head_dim":512},"latency_us":{"median":3}})");
  const Outcome outcome = work.tessera(validate({"f.jsonl", "--json", "-"}));
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  const nlohmann::json json = parse(outcome.out);
  CHECK(json["rows"].size() == 1);
  REQUIRE(json["skipped"].size() == 1);
  CHECK(json["skipped"][0]["kind"] == "attention_prefill");
}

TEST_CASE("validate complains about its input in one line and writes nothing") {
  const Workplace work;
  const auto run = [&](std::vector<std::string> words) {
    words.insert(words.end(), {"--json", "r.json"});
    return work.tessera(validate(words));
  };
  work.write("bad.csv", "m,n,k,latency\n64,256,128,0.003\n64,-2,128,0.003\n");
  work.write("unknown.csv", "a,b\n1,2\n");
  work.write("bad.jsonl",
             "{\"kind\":\"gemm\",\"args\":{\"m\":1,\"n\":1,\"kk\":1},\"latency_us\":{\"median\":1}}\n");
  work.write("later.csv", "op_name,nccl_dtype,num_gpus,message_size,latency\nall_gather,half,2,256,0.005\n");
  require_bad_input(run({"bad.csv"}), {"bad.csv:3: n: expected a whole number", "-2"});
  require_bad_input(run({"unknown.csv"}), {"unknown.csv:1", "no known layout"});
  require_bad_input(run({"bad.jsonl"}), {"bad.jsonl:1", "unknown key 'kk'"});
  require_bad_input(run({"missing.csv"}), {"missing.csv: no such file"});
  require_bad_input(run({"later.csv"}), {"no row to compare", "nccl"});
  require_bad_input(run({kData, "--kinds", "gem"}), {"'gem'", "did you mean 'gemm'?"});
  require_bad_input(run({kData, "--fidelity", "coast"}), {"expected cycle or cost"});
  require_bad_input(run({"--published", "--fidelity", "cost"}), {"--published", "--fidelity cycle"});
  require_bad_input(run({kData, "--plot", "no/such/r.html"}), {"no/such/r.html"});
  require_bad_input(run({kData, "--sample", "0"}), {"--sample"});
  require_bad_input(work.tessera({"validate", kData}), {"--hardware"});
  CHECK(work.files() == std::vector<std::string>{"bad.csv", "bad.jsonl", "later.csv", "unknown.csv"});
}

TEST_CASE("validate --plot names the package that it needs") {
  const Workplace work;
  setenv("TESSERA_CHART_JS", "/no/such/chart.min.js", 1);
  const Outcome outcome = work.tessera(validate({kData, "--plot", "r.html"}));
  unsetenv("TESSERA_CHART_JS");
  require_bad_input(outcome, {"libjs-chart.js", "/no/such/chart.min.js"});
  CHECK(work.files().empty());
}

TEST_CASE("validate runs a sample of the measured H200 data") {
  const char* given = std::getenv("TESSERA_DATA");
  const std::string data =
      (given != nullptr ? given : std::string{TESSERA_SOURCE_DIR} + "/../shared/data") + "/measured/h200";
  if (!std::filesystem::is_directory(data))
    SKIP("no measured data in " << data << "; set TESSERA_DATA to have a sample of them simulated");
  const Workplace work;
  const Outcome outcome =
      work.tessera(validate({data, "--sample", "2", "--seed", "5", "--max-ms", "0.015", "--json", "-"}));
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  const nlohmann::json json = parse(outcome.out);
  for (const char* kind :
       {"gemm", "attention_prefill", "attention_decode", "mla_prefill", "mla_decode", "causal_conv1d"}) {
    INFO(kind);
    CHECK(json["kinds"][kind]["count"].get<int>() >= 1);
  }
  std::set<std::string> skipped;
  for (const auto& s : json["skipped"]) skipped.insert(s["kind"]);
  for (const char* kind : {"nccl", "deepep"}) {
    INFO(kind);
    CHECK(skipped.contains(kind));
  }
}
