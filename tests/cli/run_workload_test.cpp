// The workload's keys, end to end: good values change the result, bad ones are refused by file, line and key.

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "tests/cli/command.hpp"

using namespace tessera::cli_test;

namespace {

/// An experiment of `model`; the workload from line 8 on.
std::string experiment(const std::string& model, const std::string& workload) {
  return "name: e\nmodel: " + model +
         "\nhardware: {comp: h200_sxm}\nfabric: nvlink4_nvswitch\nsharding: cascade_4x2\nworkload:\n"
         "  prefill_tokens: 256\n" +
         workload;
}

constexpr const char* kKimi = "tiny_kimi_linear";
constexpr const char* kExperts = "qwen3_30b_a3b";
constexpr const char* kMoba =
    "name: m\nlayers: 1\nhidden: 256\nheads: 4\nkv_heads: 2\nhead_dim: 64\n"
    "intermediate: 512\nvocab: 512\nmoba: {block: 64, topk: 3}\n";

nlohmann::json result_of(const std::string& model, const std::string& workload) {
  const Workplace work;
  work.write("moba.yaml", kMoba);
  work.write("e.yaml", experiment(model, workload));
  std::vector<std::string> words{"run", "e.yaml", "--fidelity", "cost", "--json", "-"};
  if (model == "moba.yaml") words.insert(words.end(), {"--set", "workload.prefill_tokens=8192"});
  if (model == kExperts) words.insert(words.end(), {"--set", "model.num_hidden_layers=1"});
  const Outcome outcome = work.tessera(words);
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  return parse(outcome.out);
}

void refused(const std::string& model, const std::string& workload, const std::vector<std::string>& parts) {
  const Workplace work;
  work.write("moba.yaml", kMoba);
  work.write("e.yaml", experiment(model, workload));
  require_bad_input(work.tessera({"run", "e.yaml", "--json", "out.json"}), parts);
  REQUIRE(work.files() == std::vector<std::string>{"e.yaml", "moba.yaml"});
}

double latency(const nlohmann::json& json) { return json.at("latency_us").get<double>(); }

std::int64_t sent(const nlohmann::json& json) {
  std::int64_t bytes = 0;
  for (const auto& node : json.at("nodes")) bytes += node.at("bytes_out").get<std::int64_t>();
  return bytes;
}

}  // namespace

TEST_CASE("every key of a workload changes the result") {
  const auto differ = [](const std::string& model, const std::string& a, const std::string& b) {
    INFO(model << ": " << a << " or " << b);
    CHECK(latency(result_of(model, a)) != latency(result_of(model, b)));
  };
  differ(kExperts, "  experts: local\n", "  experts: spread\n");
  differ(kExperts, "  expert_load: balanced\n", "  expert_load: power_law_1.2\n");
  differ(kExperts, "  expert_load: balanced\n", "  expert_load: uniform\n");
  differ(kKimi, "  decode_steps: 2\n  latents: route\n", "  decode_steps: 2\n  latents: fetch\n");
  differ(kKimi, "  recurrence: heads\n", "  recurrence: segments\n");
  differ("moba.yaml", "  selection: uniform\n", "  selection: zipf\n");
  differ("moba.yaml", "  selection: zipf\n  selection_skew: 1\n", "  selection: zipf\n  selection_skew: 2\n");
}

TEST_CASE("a cached prompt is not prefilled, but read and counted in memory") {
  const nlohmann::json whole = result_of(kKimi, "  decode_steps: 2\n"),
                       part = result_of(kKimi, "  decode_steps: 2\n  cached_tokens: 128\n"),
                       cached = result_of(kKimi, "  decode_steps: 2\n  cached_tokens: all\n"),
                       by_number = result_of(kKimi, "  decode_steps: 2\n  cached_tokens: 256\n");
  CHECK(latency(cached) == latency(by_number));
  CHECK(latency(cached) < latency(part));
  CHECK(latency(part) < latency(whole));
  CHECK(sent(cached) < sent(part));
  CHECK(whole.at("tokens") == 258);
  CHECK(part.at("tokens") == 130);
  CHECK(cached.at("tokens") == 2);
  CHECK(cached.at("ttft_us") == 0);
  CHECK_FALSE(cached.at("breakdown").contains("prefill"));
  CHECK(cached.at("workload").at("cached_tokens") == 256);
  const auto step = [](const nlohmann::json& json) { return json.at("decode_us_per_token").get<double>(); };
  CHECK(step(cached) > 0.9 * step(whole));  // what is cold in the L2 may differ
  CHECK(step(cached) < 1.2 * step(whole));
  // Caches grow with the prompt, whoever filled them.
  const Workplace work;
  const Outcome text =
      work.tessera({"run", "tiny_kimi_cascade", "--fidelity", "cost", "--set", "workload.cached_tokens=all"});
  REQUIRE(text.exit_code == 0);
  CHECK(text.out.find("256 prompt tokens (all cached)") != std::string::npos);
  CHECK(text.out.find("Prefill") == std::string::npos);
}

TEST_CASE("the host's part of a step comes before it, whatever runs on the GPUs") {
  for (const char* rest : {"  decode_steps: 2\n", "  decode_steps: 2\n  cached_tokens: all\n"}) {
    const nlohmann::json without = result_of(kKimi, rest),
                         with = result_of(kKimi, std::string{rest} + "  host_step_us: 300\n" +
                                                     "  host_sequence_us: 20\n  batch: 1\n");
    const int steps = std::string{rest}.find("cached") == std::string::npos ? 3 : 2;
    CHECK(latency(with) - latency(without) == Catch::Approx{steps * 320.0}.epsilon(1e-6));
    CHECK(with.at("breakdown").at("decode").at("host_us") == Catch::Approx{2 * 320.0});
    CHECK(without.at("breakdown").at("decode").at("host_us") == 0);
    CHECK(with.at("decode_us_per_token").get<double>() ==
          Catch::Approx{without.at("decode_us_per_token").get<double>() + 320}.epsilon(1e-6));
    CHECK(with.at("energy_j") > without.at("energy_j"));  // GPUs are idle, not off
    CHECK(with.at("limits").front().at("name") == "host");
    CHECK(with.at("limits").front().at("share") == Catch::Approx{320 * steps / latency(with)}.epsilon(1e-6));
    for (const auto& node : with.at("nodes")) {
      INFO(node.at("name"));
      CHECK(node.at("busy") <= 1);
    }
  }
}

TEST_CASE("tensor parallelism runs on so many GPUs") {
  const Workplace work;
  std::string text = experiment(kKimi, "  decode_steps: 1\n");
  text.replace(text.find("cascade_4x2"), 11, "{mode: tensor, gpus: 2}");
  work.write("e.yaml", text);
  const Outcome outcome = work.tessera({"run", "e.yaml", "--fidelity", "cost", "--json", "-"});
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  const nlohmann::json json = parse(outcome.out);
  CHECK(json.at("nodes").size() == 2);
  CHECK(json.at("sharding").at("gpus") == 2);
  CHECK(json.at("breakdown").at("prefill").at("stages").contains("reduce"));
  require_bad_input(work.tessera({"run", "e.yaml", "--set", "sharding.gpus=3"}), {"3 GPUs do not divide"});
  require_bad_input(work.tessera({"run", "e.yaml", "--set", "sharding.gpus=1"}),
                    {"sharding.gpus:", "at least 2"});
}

TEST_CASE("bad values of a workload's keys are refused with the nearest name") {
  refused(kExperts, "  experts: spraed\n", {"e.yaml:8: workload.experts:", "did you mean 'spread'?"});
  refused(kExperts, "  expert_load: balnced\n", {"e.yaml:8: workload.expert_load:", "balnced"});
  refused(kExperts, "  expert_load: power_law_x\n", {"e.yaml:8: workload.expert_load:", "power_law_x"});
  refused(kKimi, "  latents: fetsch\n", {"e.yaml:8: workload.latents:", "did you mean 'fetch'?"});
  refused(kKimi, "  recurrence: segment\n", {"e.yaml:8: workload.recurrence:", "did you mean 'segments'?"});
  refused("moba.yaml", "  selection: unifrom\n",
          {"e.yaml:8: workload.selection:", "did you mean 'uniform'?"});
  refused("moba.yaml", "  selection: zipf\n  selection_skew: -1\n", {"e.yaml:9: workload.selection_skew:"});
  refused("moba.yaml", "  selection_skew: 1\n",
          {"e.yaml:8: workload.selection_skew:", "only the selections"});
  refused(kKimi, "  host_step_us: -1\n", {"e.yaml:8: workload.host_step_us:"});
  refused(kKimi, "  cached_token: all\n",
          {"e.yaml:8: workload.cached_token:", "did you mean 'cached_tokens'?"});
  refused(kKimi, "  decode_steps: 1\n  cached_tokens: al\n",
          {"e.yaml:9: workload.cached_tokens:", "did you mean 'all'?"});
  refused(kKimi, "  decode_steps: 1\n  cached_tokens: 257\n",
          {"e.yaml:9: workload.cached_tokens:", "only 256 tokens"});
  refused(kKimi, "  cached_tokens: all\n", {"e.yaml:8: workload.cached_tokens:", "nothing to run"});
}

TEST_CASE("keys about what a model or a machine does not have are refused") {
  refused("tiny", "  experts: local\n", {"e.yaml:8: workload.experts:", "tiny has no experts"});
  refused("tiny", "  expert_load: balanced\n", {"e.yaml:8: workload.expert_load:", "no experts"});
  refused("tiny", "  latents: route\n", {"e.yaml:8: workload.latents:", "no MLA layers"});
  refused("tiny", "  recurrence: heads\n", {"e.yaml:8: workload.recurrence:", "no KDA layers"});
  refused(kKimi, "  selection: uniform\n", {"e.yaml:8: workload.selection:", "no MoBA layers"});
  refused("bert_large", "  cached_tokens: 1\n", {"e.yaml:8: workload.cached_tokens:", "bidirectional"});
  const Workplace work;
  for (const char* key : {"latents=fetch", "recurrence=segments"})
    require_bad_input(work.tessera({"run", "tiny_kimi_cascade", "--set", "sharding=single", "--set",
                                    std::string{"workload."} + key}),
                      {"workload.", "without"});
}
