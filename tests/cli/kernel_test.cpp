#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <map>
#include <string>

#include "tests/cli/command.hpp"

using namespace tessera::cli_test;

namespace {
const std::vector<std::string> kGemm{"kernel", "gemm", "m=512", "n=512", "k=512", "--hardware", "h200_sxm"};

std::vector<std::string> with(std::vector<std::string> words, const std::vector<std::string>& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}
}  // namespace

TEST_CASE("kernel --json - prints the fixed keys and nothing else") {
  const Workplace work;
  const Outcome outcome = work.tessera(with(kGemm, {"--json", "-"}));
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  REQUIRE(outcome.err.empty());
  const nlohmann::json json = parse(outcome.out);
  for (const char* key : {"kind", "hardware", "fidelity", "latency_us", "cycles", "bottleneck", "utilization",
                          "bytes", "flops", "energy_j", "ci95_percent", "calibration"}) {
    INFO(key);
    REQUIRE(json.contains(key));
  }
  REQUIRE(json["kind"] == "gemm");
  REQUIRE(json["hardware"] == "h200_sxm");
  REQUIRE(json["fidelity"] == "cycle");
  REQUIRE(json["flops"] == 2.0 * 512 * 512 * 512);
  REQUIRE(json["bytes"]["l2"].get<double>() >= 3.0 * 512 * 512 * 2);
  REQUIRE(json["bytes"].contains("hbm"));
  REQUIRE(json["latency_us"].get<double>() > 1);
  REQUIRE(json["energy_j"].get<double>() > 0);
  const double cycles = json["latency_us"].get<double>() * json["clock_mhz"].get<double>();
  REQUIRE_THAT(json["cycles"].get<double>(), Catch::Matchers::WithinRel(cycles, 1e-12));
  REQUIRE(work.files().empty());
}

TEST_CASE(
    "kernel results are identical from run to run and for any number of threads, but for the wall time") {
  const Workplace work;
  const std::vector<std::vector<std::string>> kernels{
      kGemm,
      {"kernel", "gemm", "m=1536", "n=2048", "k=512", "--hardware", "h200_sxm"},
      {"kernel", "attention_prefill", "seq=1024", "heads=8", "kv_heads=2", "--hardware", "h200_sxm"},
      {"kernel", "memcpy", "bytes=8388608", "l2=cold", "--hardware", "a100_sxm_80gb"}};
  for (const auto& kernel : kernels) {
    std::vector<std::string> results;
    for (const char* threads : {"1", "1", "2", "3"}) {
      nlohmann::json json = parse(work.tessera(with(kernel, {"--json", "-", "--threads", threads})).out);
      json.erase("wall_s");
      results.push_back(json.dump());
    }
    for (const std::string& result : results) CHECK(result == results.front());
  }
}

TEST_CASE("kernel prints a table for people, and writes JSON to a file beside it") {
  const Workplace work;
  const Outcome outcome = work.tessera(with(kGemm, {"--json", "out.json"}));
  REQUIRE(outcome.exit_code == 0);
  for (const char* word : {"latency", "bottleneck", "tensor", "TFLOP/s", "energy"}) {
    INFO(word);
    REQUIRE(outcome.out.find(word) != std::string::npos);
  }
  REQUIRE(outcome.out.find('\x1b') == std::string::npos);  // no colours into a file
  REQUIRE(work.files() == std::vector<std::string>{"out.json"});
  REQUIRE(parse(work.read("out.json"))["kind"] == "gemm");
}

TEST_CASE("a cold L2 means more bytes from HBM; a host launch takes longer") {
  const Workplace work;
  const nlohmann::json warm = parse(work.tessera(with(kGemm, {"--json", "-"})).out);
  const nlohmann::json cold = parse(work.tessera(with(kGemm, {"l2=cold", "--json", "-"})).out);
  const nlohmann::json host = parse(work.tessera(with(kGemm, {"launch=host", "--json", "-"})).out);
  REQUIRE(cold["bytes"]["hbm_read"].get<double>() >=
          warm["bytes"]["hbm_read"].get<double>() + 2.0 * 512 * 512 * 2);
  REQUIRE(cold["latency_us"].get<double>() > warm["latency_us"].get<double>());
  REQUIRE(host["latency_us"].get<double>() > warm["latency_us"].get<double>());
}

TEST_CASE("kernel --timeline is a trace with the kernel's slice, warp roles and counters") {
  const Workplace work;
  REQUIRE(work.tessera(with(kGemm, {"--timeline", "t.json"})).exit_code == 0);
  const nlohmann::json trace = parse(work.read("t.json"));
  std::map<int, int> slices;
  std::map<std::string, int> counters;
  bool has_role = false;
  for (const auto& event : trace.at("traceEvents")) {
    if (event.at("name") == "thread_name")
      has_role = has_role || event.at("args").at("name") == "CTA 0 producer";
    if (event.at("ph") == "X") {
      ++slices[event.at("pid").get<int>()];
      REQUIRE(event.at("dur").get<double>() > 0);
    }
    if (event.at("ph") == "C") {
      const auto name = event.at("name").get<std::string>();
      ++counters[name.substr(0, name.find(' '))];
      REQUIRE(event.at("args").at("percent").get<double>() >= 0);
      REQUIRE(event.at("args").at("percent").get<double>() <= (name == "power" ? 200 : 100.5));
    }
  }
  REQUIRE(slices.size() == 2);  // the GPU's stream, and one SM
  REQUIRE(slices[1] == 1);
  REQUIRE(slices[2] > 10);
  REQUIRE(has_role);
  for (const char* name : {"GPC", "HBM", "L2", "power"}) CHECK(counters[name] > 0);
}

TEST_CASE("kernel complains about its arguments in one line and writes nothing") {
  const Workplace work;
  const auto kernel = [&](std::vector<std::string> words) {
    words.insert(words.begin(), "kernel");
    return work.tessera(with(std::move(words), {"--hardware", "h200_sxm", "--json", "out.json"}));
  };
  require_bad_input(kernel({"gemm", "m=512", "n=512"}), {"gemm", "missing k"});
  require_bad_input(kernel({"gemm", "m=512", "n=512", "k=512", "dtyp=bf16"}),
                    {"dtyp", "did you mean 'dtype'?"});
  require_bad_input(kernel({"gemm", "m=512", "n=512", "k=many"}), {"k:", "many"});
  require_bad_input(kernel({"gemm", "m=512", "n=0", "k=512"}), {"n:", "positive"});
  require_bad_input(kernel({"gemm", "m=512", "m=512", "n=512", "k=512"}), {"m is given twice"});
  require_bad_input(kernel({"gemm", "512"}), {"key=value", "512"});
  require_bad_input(kernel({"gem", "m=512"}), {"gem", "did you mean 'gemm'?"});
  require_bad_input(kernel({"attention_prefill", "seq=512", "heads=0"}), {"heads", "positive"});
  require_bad_input(kernel({"attention_prefill", "seq=512", "heads=6", "kv_heads=4"}),
                    {"heads (6)", "kv_heads (4)"});
  require_bad_input(kernel({"attention_prefill", "seq=512", "heads=8", "algorithm=fa4"}),
                    {"algorithm", "fa3 or fa2"});
  require_bad_input(kernel({"all_reduce", "bytes=512"}),
                    {"all_reduce", "not in this build", "attention_decode"});
  require_bad_input(work.tessera({"kernel", "gemm", "m=1", "n=1", "k=1", "--hardware", "h200_smx"}),
                    {"h200_smx", "did you mean 'h200_sxm'?"});
  require_bad_input(work.tessera(with(kGemm, {"--fidelity", "coast"})), {"expected cycle or cost"});
  require_bad_input(work.tessera(with(kGemm, {"--fidelity", "cost", "--timeline", "t.json"})),
                    {"no timeline"});
  require_bad_input(work.tessera(with(kGemm, {"--json", "missing/out.json"})), {"missing/out.json"});
  require_bad_input(work.tessera(with(kGemm, {"--timeline", "."})), {"is a directory"});
  require_bad_input(work.tessera({"kernel", "gemm", "m=1", "n=1", "k=1"}), {"--hardware"});
  REQUIRE(work.files().empty());
}

TEST_CASE("defaults of a kind come from DESIGN: kv_heads follows heads") {
  const Workplace work;
  const Outcome outcome = work.tessera(
      {"kernel", "attention_prefill", "seq=256", "heads=4", "--hardware", "h200_sxm", "--json", "-"});
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  const nlohmann::json arguments = parse(outcome.out)["arguments"];
  REQUIRE(arguments["batch"] == "1");
  REQUIRE(arguments["kv_heads"] == "4");
  REQUIRE(arguments["head_dim"] == "128");
  REQUIRE(arguments["causal"] == "true");
  REQUIRE(arguments["algorithm"] == "fa3");
  REQUIRE(arguments["dtype"] == "bf16");
}

TEST_CASE("the GPU's architecture chooses latent attention's kernels, unless algorithm= does") {
  const Workplace work;
  const auto kernels = [&](const std::vector<std::string>& arguments) {
    const Outcome outcome = work.tessera(with({"kernel", "--fidelity", "cost"}, arguments));
    INFO(outcome.err);
    REQUIRE(outcome.exit_code == 0);
    return outcome.out;
  };
  const std::vector<std::string> decode{"mla_decode", "context=2000", "heads=16", "--hardware"},
      prefill{"mla_prefill", "seq=300", "heads=2", "--hardware"};
  const auto has = [](const std::string& text, const char* word) {
    return text.find(word) != std::string::npos;
  };
  CHECK(has(kernels(with(decode, {"a100_sxm_80gb"})), "triton mla decode"));
  CHECK(has(kernels(with(decode, {"h200_sxm"})), "flash3 latent"));
  CHECK(has(kernels(with(decode, {"h200_sxm", "algorithm=triton"})), "triton mla reduce"));
  CHECK(has(kernels(with(prefill, {"a100_sxm_80gb"})), "flash2 128x64 d192"));
  CHECK(has(kernels(with(prefill, {"h200_sxm", "algorithm=fa2"})), "cut result"));
  require_bad_input(work.tessera(with(with({"kernel"}, decode), {"a100_sxm_80gb", "algorithm=fa3"})),
                    {"algorithm fa3 needs a Hopper GPU"});
  require_bad_input(work.tessera(with(with({"kernel"}, prefill), {"a100_sxm_80gb", "algorithm=triton"})),
                    {"algorithm triton is of the absorbed form"});
  require_bad_input(work.tessera(with(with({"kernel"}, prefill), {"a100_sxm_80gb", "form=absorbed"})),
                    {"one query row a sequence, not 300"});
}

TEST_CASE("kernel hbm_stream drives the HBM alone; --set changes the hardware") {
  const Workplace work;
  const std::vector<std::string> stream{"kernel",    "hbm_stream", "pattern=random", "size=32",
                                        "bytes=1Mi", "--hardware", "hbm3_6400"};
  const Outcome outcome = work.tessera(with(stream, {"--json", "-"}));
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  const nlohmann::json json = parse(outcome.out);
  for (const char* key : {"kind", "hardware", "fidelity", "latency_us", "cycles", "bottleneck", "utilization",
                          "bytes", "flops", "energy_j", "ci95_percent", "calibration", "gb_per_s",
                          "latency_ns", "row_hit_rate", "commands", "time_lost"}) {
    INFO(key);
    REQUIRE(json.contains(key));
  }
  REQUIRE(json["bytes"]["hbm"] == 1 << 20);
  REQUIRE(json["commands"]["read"] == (1 << 20) / 32);
  const nlohmann::json slow =
      parse(work.tessera(with(stream, {"--set", "hbm.tfaw_ns=30", "--json", "-"})).out);
  REQUIRE(slow["gb_per_s"].get<double>() < 0.7 * json["gb_per_s"].get<double>());
  REQUIRE(work.tessera(stream).out.find("of peak") != std::string::npos);
  require_bad_input(work.tessera({"kernel", "hbm_stream", "pattern=diagonal", "--hardware", "h200_sxm"}),
                    {"pattern", "sequential or strided", "diagonal"});
  require_bad_input(work.tessera(with(stream, {"reads=2"})), {"reads", "0 to 1"});
  require_bad_input(work.tessera(with(stream, {"--set", "hbm.tfaw=30"})), {"hbm.tfaw", "unknown key"});
}
