#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <fstream>
#include <iterator>
#include <map>

#include "tests/cli/command.hpp"

using namespace tessera::cli_test;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

namespace {

nlohmann::json run_json(const Workplace& work, std::vector<std::string> words) {
  words.insert(words.begin(), "run");
  words.insert(words.end(), {"--json", "-"});
  const Outcome outcome = work.tessera(words);
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  return parse(outcome.out);
}

/// The text without its line of wall time.
std::string without_wall(const std::string& text) {
  std::string kept;
  std::size_t at = 0;
  int dropped = 0;
  while (at < text.size()) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    if (line.find("\"wall_s\"") == std::string::npos) {
      kept += line + "\n";
    } else {
      ++dropped;
    }
    at = end + 1;
  }
  REQUIRE(dropped == 1);
  return kept;
}

double number(const nlohmann::json& json, const char* key) { return json.at(key).get<double>(); }

}  // namespace

TEST_CASE("run --json - prints the fixed keys, and the parts add up") {
  const Workplace work;
  const nlohmann::json json = run_json(work, {"tiny_cascade"});
  for (const char* key :
       {"latency_us", "tokens", "nodes", "layers", "breakdown", "links", "bottleneck", "energy_j", "cost_usd",
        "ci95_percent", "seed", "config_hash", "wall_s", "events"}) {
    INFO(key);
    REQUIRE(json.contains(key));
  }
  REQUIRE(json["nodes"].size() == 4 + 2 * 2);
  REQUIRE(json["layers"].size() == 2);
  REQUIRE(json["tokens"] == 256 + 2);
  REQUIRE(json["seed"] == 1);
  REQUIRE(json["config_hash"].get<std::string>().size() == 40);
  REQUIRE(number(json, "cost_usd") >= 0);
  REQUIRE(json["events"].get<std::uint64_t>() > 0);

  // The critical paths of prefill and decode fill the latency, stage by stage.
  double latency = 0;
  std::map<std::string, double> hbm;  // by kind of node: shares of the run, from the phases'
  for (const auto& [name, phase] : json["breakdown"].items()) {
    double limits = 0;
    for (const auto& limit : phase["limits"]) limits += number(limit, "share");
    REQUIRE_THAT(limits, WithinRel(1, 1e-9));
    for (const char* kind : {"comp", "attn"}) {
      const double share = number(phase, "latency_us") / number(json, "latency_us");
      hbm[kind] += number(phase["utilization"][kind], "hbm") * share;
      REQUIRE(number(phase["utilization"][kind], "busy") <= 1);
    }

    double sum = number(phase, "launch_us"), communication = 0;  // decoding also sends the new token on
    for (const auto& [stage, times] : phase["stages"].items()) {
      sum += number(times, "critical_us");
      REQUIRE(number(times, "elapsed_us") > 0);
      if (stage == "send" || stage == "return") communication += number(times, "critical_us");
    }
    REQUIRE_THAT(sum, WithinRel(number(phase, "latency_us"), 1e-9));
    REQUIRE(communication > 0);
    REQUIRE(number(phase, "exposed_communication_us") > communication * (1 - 1e-9));
    REQUIRE(number(phase, "exposed_communication_us") < number(phase, "latency_us"));
    latency += number(phase, "latency_us");
  }
  REQUIRE_THAT(latency, WithinRel(number(json, "latency_us"), 1e-9));
  for (const char* stage : {"qkv", "send", "attention", "return", "merge", "o_proj", "mlp"}) {
    INFO(stage);
    REQUIRE(json["breakdown"]["prefill"]["stages"].contains(stage));
    REQUIRE(json["breakdown"]["decode"]["stages"].contains(stage));
  }

  // What leaves nodes arrives at nodes.
  std::int64_t out = 0, in = 0;
  double energy = 0;
  std::map<std::string, double> mean_hbm;
  for (const auto& node : json["nodes"]) {
    out += node["bytes_out"].get<std::int64_t>();
    in += node["bytes_in"].get<std::int64_t>();
    energy += number(node, "energy_j");
    mean_hbm[node["kind"]] += number(node, "hbm") / 4;
    REQUIRE(number(node, "busy") > 0);
    REQUIRE(number(node, "busy") <= 1);
  }
  for (const char* kind : {"comp", "attn"}) REQUIRE_THAT(mean_hbm[kind], WithinRel(hbm[kind], 1e-6));
  REQUIRE(out == in);
  REQUIRE(out > 0);
  REQUIRE(energy > 0);
  REQUIRE_THAT(number(json, "energy_j"), WithinRel(energy, 0.5));
  REQUIRE(work.files().empty());
}

TEST_CASE("KDA and MLA layers run at both fidelities and move the closed-form bytes") {
  const Workplace work;
  // 256 + 2 tokens; KDA of 4 heads of 64; MLA of 4 heads of 64 + 32 and 64 over 128 + 32 latents; beta = 2.
  // The last token of the prompt, sampled, goes on to another CompNode.
  const std::int64_t kda = 258 * 4 * (4 * 64 + 1 + 64) * 2;
  const std::int64_t mla_prompt = 256 * 2 * ((4 * 96 + 160) * 2 + 4 * (64 * 2 + 8));
  const std::int64_t mla_routed = 2 * (160 * 2 * (2 * 4 + 2) + 2 * 4 * (128 * 2 + 8));
  // Fetched: the prompt's rows, for one request; both tokens have the same owner, which has the first one's.
  const std::int64_t mla_fetched = 160 * 2 * (2 * 2 + 256) + 8;
  const auto bytes_and_parts = [&](std::vector<std::string> arguments) {
    const nlohmann::json json = run_json(work, std::move(arguments));
    std::int64_t out = 0;
    for (const auto& node : json["nodes"]) out += node["bytes_out"].get<std::int64_t>();
    REQUIRE(number(json, "latency_us") > 0);
    return std::pair{out, json["breakdown"]["decode"]["stages"].contains("merge")};
  };
  for (const char* fidelity : {"cost", "cycle"}) {
    INFO(fidelity);
    const auto routed = bytes_and_parts({"tiny_kimi_cascade", "--fidelity", fidelity});
    REQUIRE(routed == std::pair{kda + mla_prompt + mla_routed + 8, true});
  }
  const auto fetched =
      bytes_and_parts({"tiny_kimi_cascade", "--fidelity", "cost", "--set", "workload.latents=fetch"});
  REQUIRE(fetched == std::pair{kda + mla_prompt + mla_fetched + 8, false});
}

TEST_CASE(
    "run is identical byte for byte whatever the workers, and the lookahead does not change the result") {
  const Workplace work;
  const auto text = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"run", "tiny_cascade", "--json", "-"});
    const Outcome outcome = work.tessera(more);
    REQUIRE(outcome.exit_code == 0);
    return without_wall(outcome.out);
  };
  const std::string first = text({"-j", "1"});
  REQUIRE(text({"-j", "1"}) == first);
  REQUIRE(text({"-j", "2"}) == first);
  nlohmann::json plain = parse(first), short_sighted = parse(text({"--lookahead-ns", "5"}));
  REQUIRE(plain == short_sighted);
}

TEST_CASE("the hash follows every input, and only inputs") {
  const Workplace work;
  const auto hash = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"tiny_cascade", "--set", "workload.decode_steps=0"});
    return run_json(work, more)["config_hash"].get<std::string>();
  };
  const std::string base = hash({});
  REQUIRE(hash({"-j", "1"}) == base);
  REQUIRE(hash({"--set", "fabric.node_gb_per_s=100"}) != base);
  REQUIRE(hash({"--set", "model.vocab=2048"}) != base);
  REQUIRE(hash({"--set", "hardware.comp.launch.graph_launch_us=3"}) != base);
}

TEST_CASE("the option --set reaches the files an experiment names") {
  const Workplace work;
  const nlohmann::json base = run_json(work, {"tiny_cascade", "--set", "workload.decode_steps=0"});
  const nlohmann::json slow = run_json(work, {"tiny_cascade", "--set", "workload.decode_steps=0", "--set",
                                              "fabric.endpoint_latency_ns=50000"});
  const nlohmann::json deep =
      run_json(work, {"tiny_cascade", "--set", "workload.decode_steps=0", "--set", "model.layers=3"});
  REQUIRE(base["breakdown"].size() == 1);
  REQUIRE(number(slow, "latency_us") > number(base, "latency_us") + 2 * 2 * 49);
  REQUIRE(slow["bottleneck"].get<std::string>().starts_with("interconnect"));
  REQUIRE(deep["layers"].size() == 3);
  REQUIRE(number(deep, "latency_us") > number(base, "latency_us"));
}

TEST_CASE("one GPU needs no fabric and sends nothing") {
  const Workplace work;
  work.write("one.yaml",
             "model: tiny\nhardware: h200_sxm\nsharding: {mode: single}\nworkload: {prefill_tokens: 128, "
             "decode_steps: 1}\n");
  const nlohmann::json json = run_json(work, {"one.yaml"});
  REQUIRE(json["name"] == "one");
  REQUIRE(json["nodes"].size() == 1);
  REQUIRE(json["nodes"][0]["bytes_out"] == 0);
  REQUIRE(number(json["breakdown"]["prefill"], "exposed_communication_us") == 0);
}

TEST_CASE("decoded tokens that explicit sets do not name go to the sets in turn") {
  const Workplace work;
  const auto experiment = [](const std::string& r, const std::string& s) {
    return "name: sets\nmodel: tiny\nhardware: h200_sxm\nfabric: nvlink4_nvswitch\nsharding:\n  mode: "
           "cascade\n"
           "  R: {scheme: explicit, sets: " +
           r + "}\n  S: {scheme: explicit, sets: " + s + "}\n" +
           "workload: {prefill_tokens: 8, decode_steps: 3}\n";
  };
  work.write("unnamed.yaml", experiment(R"(["0-5", "6-7"])", R"(["4-7", [0, 1, 2, 3]])"));
  work.write("named.yaml", experiment(R"(["0-5,8,10", "6-7,9"])", R"(["4-7,8,10", [0, 1, 2, 3, 9]])"));
  nlohmann::json unnamed = run_json(work, {"unnamed.yaml"}), named = run_json(work, {"named.yaml"});
  REQUIRE(unnamed["breakdown"]["decode"]["steps"] == 3);
  REQUIRE(unnamed["config_hash"] != named["config_hash"]);
  for (nlohmann::json* json : {&unnamed, &named}) {
    json->erase("config_hash");
    json->erase("wall_s");
  }
  REQUIRE(unnamed == named);
}

TEST_CASE("a bidirectional model keeps no cache, in memory or in time") {
  const Workplace work;
  work.write(
      "m.yaml",
      "name: m\nlayers: 3\nhidden: 128\nheads: 4\nkv_heads: 2\nhead_dim: 32\nintermediate: 256\nvocab: 512\n"
      "tied_embeddings: true\n");
  work.write("e.yaml",
             "model: m.yaml\nhardware: h200_sxm\nsharding: {mode: single}\nworkload: {prefill_tokens: 64, "
             "batch: 2}\n");
  const nlohmann::json decoder = run_json(work, {"e.yaml"}),
                       encoder = run_json(work, {"e.yaml", "--set", "model.causal=false"});
  const std::int64_t cache = 3 * 2 * (64 * 2) * (2 * 32) * 2;  // layers, k and v, rows, kv width, bytes
  REQUIRE(decoder["nodes"][0]["memory_bytes"].get<std::int64_t>() -
              encoder["nodes"][0]["memory_bytes"].get<std::int64_t>() ==
          cache);
  REQUIRE(decoder["breakdown"]["prefill"]["stages"]["cache"]["tasks"] == 3);
  REQUIRE_FALSE(encoder["breakdown"]["prefill"]["stages"].contains("cache"));
  const Outcome text = work.tessera({"run", "e.yaml", "--set", "model.causal=false"});
  REQUIRE(text.out.find("forward pass") != std::string::npos);
  REQUIRE(text.out.find("TTFT") == std::string::npos);
}

TEST_CASE("run prints tables for people") {
  const Workplace work;
  const Outcome outcome = work.tessera({"run", "tiny_cascade", "--json", "out.json"});
  INFO(outcome.out << outcome.err);
  REQUIRE(outcome.exit_code == 0);
  for (const char* word : {"tiny_cascade", "4 CompNodes", "4 AttnNodes", "prefill (TTFT)", "decode per token",
                           "bottleneck", "energy", "attention", "return", "merge", "(launch)",
                           "exposed communication", "comp0", "attn1,1", "Links", "wall", "peak memory"}) {
    INFO(word);
    REQUIRE(outcome.out.find(word) != std::string::npos);
  }
  REQUIRE(outcome.out.find('\x1b') == std::string::npos);
  REQUIRE(parse(work.read("out.json"))["name"] == "tiny_cascade");
  REQUIRE(work.files() == std::vector<std::string>{"out.json"});
}

TEST_CASE("run --timeline is a trace of every task, and of every GPC, HBM and link over time") {
  const Workplace work;
  const Outcome outcome = work.tessera({"run", "tiny_cascade", "--timeline", "t.json", "--json", "r.json"});
  REQUIRE(outcome.exit_code == 0);
  const nlohmann::json result = parse(work.read("r.json")), trace = parse(work.read("t.json"));
  const double latency = number(result, "latency_us");
  REQUIRE(trace.at("otherData").at("counters") == "as simulated");
  REQUIRE(trace.at("otherData").at("slices") == "every kernel and message");

  std::map<int, std::string> processes;
  std::map<std::pair<int, int>, std::string> names;
  std::map<std::pair<int, int>, std::vector<std::pair<double, double>>> slices;
  struct Counter {
    double at = 0, percent = 0, busy_us = 0;
  };
  std::map<std::pair<int, std::string>, Counter> counters;
  std::int64_t sent = 0;
  for (const auto& event : trace.at("traceEvents")) {
    const std::string kind = event.at("ph");
    const int process = event.at("pid");
    if (kind == "M" && event.at("name") == "process_name") processes[process] = event.at("args").at("name");
    if (kind == "M" && event.at("name") == "thread_name")
      names[{process, event.at("tid")}] = event.at("args").at("name");
    if (kind == "C") {
      Counter& counter = counters[{process, event.at("name")}];
      const double at = event.at("ts"), percent = event.at("args").at("percent");
      REQUIRE(at >= counter.at);
      REQUIRE(at <= latency + 1e-3);
      REQUIRE(percent >= 0);
      REQUIRE(percent <= 100);
      counter.busy_us += (at - counter.at) * counter.percent / 100;
      counter.at = at;
      counter.percent = percent;
    }
    if (kind != "X") continue;
    REQUIRE(number(event, "ts") >= 0);
    REQUIRE(number(event, "dur") >= 0);
    slices[{process, event.at("tid")}].emplace_back(event.at("ts"), event.at("dur"));
    if (event.at("args").contains("bytes")) sent += event.at("args").at("bytes").get<std::int64_t>();
  }
  REQUIRE(processes.size() == 8 + 1 + 1);
  for (const auto& [process, name] : processes) {
    INFO(name);
    if (name.starts_with("SM 0 of GPC 0, ")) continue;  // of the kernel that takes most time: the next test
    if (name == "fabric") {
      for (const auto& link : result["links"]) {
        const Counter& counter = counters.at({process, link.at("name").get<std::string>()});
        REQUIRE_THAT(counter.busy_us / latency, WithinAbs(number(link, "utilization"), 1e-4));
      }
      continue;
    }
    const auto node = std::find_if(result["nodes"].begin(), result["nodes"].end(),
                                   [&, &n = name](const auto& candidate) { return candidate["name"] == n; });
    REQUIRE(node != result["nodes"].end());
    REQUIRE_THAT(counters.at({process, "HBM"}).busy_us / latency, WithinAbs(number(*node, "hbm"), 1e-4));
    REQUIRE_THAT(counters.at({process, "L2"}).busy_us / latency, WithinAbs(number(*node, "l2"), 1e-4));
    for (int gpc = 0; gpc < 8; ++gpc)
      REQUIRE(counters.contains({process, "GPC " + std::to_string(gpc) + " tensor cores"}));
    for (const char* track : {"compute stream", "link out", "link in"}) {
      INFO(track);
      REQUIRE(std::any_of(names.begin(), names.end(), [&, p = process](const auto& entry) {
        return entry.first.first == p && entry.second == track;
      }));
    }
  }
  for (const auto& [key, counter] : counters) REQUIRE(counter.percent == 0);  // at its end
  double last = 0;
  for (auto& [track, list] : slices) {  // all of one level: none overlaps another
    REQUIRE(names.contains(track));
    std::sort(list.begin(), list.end());
    for (std::size_t i = 1; i < list.size(); ++i)
      REQUIRE(list[i - 1].first + list[i - 1].second <= list[i].first + 1e-9);
    last = std::max(last, list.back().first + list.back().second);
  }
  REQUIRE_THAT(last, WithinAbs(latency, 1e-3));
  std::int64_t bytes = 0;
  for (const auto& node : result["nodes"]) bytes += node["bytes_out"].get<std::int64_t>();
  REQUIRE(sent == 2 * bytes);  // drawn at both ends
}

TEST_CASE("run --timeline looks into the kernel that takes most time, where it first ran") {
  const Workplace work;
  // A prompt of few tokens: it is the head's product, which reads 16 MB of weights.
  const Outcome outcome = work.tessera({"run", "tiny_cascade", "--set", "workload.decode_steps=0", "--set",
                                        "workload.prefill_tokens=16", "--set", "model.vocab=32K", "--set",
                                        "model.layers=1", "--set", "sharding=single", "--timeline", "t.json",
                                        "--timeline-detail", "10", "--json", "-"});
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  const nlohmann::json trace = parse(work.read("t.json"));
  int sm = 0, hbm = 0;
  double from = -1, to = -1;
  for (const auto& event : trace.at("traceEvents")) {
    if (event.at("ph") == "M" && event.at("name") == "process_name") {
      const std::string name = event.at("args").at("name");
      if (name == "SM 0 of GPC 0, gpu0 during head (prefill)") sm = event.at("pid");
      if (name == "HBM, gpu0 during head (prefill)") hbm = event.at("pid");
    }
    if (event.at("ph") == "X" && event.at("name").get<std::string>().starts_with("head")) {
      from = event.at("ts");
      to = from + event.at("dur").get<double>();
    }
  }
  REQUIRE((sm > 0 && hbm > 0 && from >= 0));
  std::map<int, int> roles;
  std::map<std::string, double> channels;  // the busiest they were
  for (const auto& event : trace.at("traceEvents")) {
    if (event.at("pid") != sm && event.at("pid") != hbm) continue;
    if (event.at("ph") == "M") continue;
    REQUIRE(event.at("ts").get<double>() >= from);
    if (event.at("ph") == "X") {
      ++roles[event.at("tid").get<int>()];
      REQUIRE(event.at("ts").get<double>() + event.at("dur").get<double>() <= to + 1e-3);
    } else {
      double& most = channels[event.at("name").get<std::string>()];
      most = std::max(most, event.at("args").at("percent").get<double>());
      REQUIRE(most <= 100);
    }
  }
  CHECK(roles.size() >= 2);  // a producer, and who multiplies
  for (const auto& [track, slices] : roles) CHECK(slices > 3);
  CHECK(channels.size() == 192);  // 6 stacks of 32 pseudo-channels
  std::size_t busy = 0;
  for (const auto& [name, most] : channels) busy += most > 10;
  CHECK(busy >= 96);
}

// To accept a change of the model: tessera run tiny_cascade --json - | grep -v '"wall_s"' >
// tests/cli/golden/tiny_cascade.json, and the same with `kernel gemm m=256 n=256 k=256 --hardware
// a100_sxm_80gb`.
TEST_CASE("results equal the golden files, byte for byte, in every build type") {
  const auto golden = [](const std::string& name) {
    std::ifstream in{std::string{TESSERA_SOURCE_DIR} + "/tests/cli/golden/" + name};
    REQUIRE(in);
    return std::string{std::istreambuf_iterator<char>{in}, {}};
  };
  const Workplace work;
  const Outcome run = work.tessera({"run", "tiny_cascade", "--json", "-"});
  REQUIRE(run.exit_code == 0);
  CHECK(without_wall(run.out) == golden("tiny_cascade.json"));
  const Outcome kernel = work.tessera(
      {"kernel", "gemm", "m=256", "n=256", "k=256", "--hardware", "a100_sxm_80gb", "--json", "-"});
  REQUIRE(kernel.exit_code == 0);
  const std::string text =
      kernel.out.find("\"wall_s\"") == std::string::npos ? kernel.out : without_wall(kernel.out);
  CHECK(text == golden("gemm_a100.json"));
}
