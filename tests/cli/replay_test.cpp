// tessera replay and tessera trace, end to end.

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <map>
#include <string>

#include "tests/cli/command.hpp"

using namespace tessera::cli_test;

namespace {

const std::string kTrace =
    "arrival_s,input_tokens,output_tokens,blocks\n"
    "0,700,5,1 2\n"
    "0.001,600,3,1 7\n"
    "0.05,10,0,\n"
    "0.1,5000,8,\n"
    "0.2,1100,20,1 2 3\n";

std::int64_t sum(const nlohmann::json& fates) {
  std::int64_t n = 0;
  for (const auto& fate : fates) n += fate.get<std::int64_t>();
  return n;
}

}  // namespace

TEST_CASE("replay: every request has a fate, and the same input gives the same bytes") {
  const Workplace work;
  work.write("t.csv", kTrace);
  const std::vector<std::string> command{"replay",        "t.csv",
                                         "--experiment",  "tiny_kimi_cascade",
                                         "--set",         "serving.max_batched_tokens=512",
                                         "--json",        "a.json",
                                         "--requests",    "each.csv",
                                         "--slo-ttft-ms", "1000"};
  const Outcome outcome = work.tessera(command);
  REQUIRE(outcome.exit_code == 0);
  const nlohmann::json json = parse(work.read("a.json"));
  CHECK(json["requests"]["arrived"] == 5);
  CHECK(sum(json["requests"]["fates"]) == 5);
  CHECK(json["requests"]["fates"]["rejected_no_output"] == 1);
  CHECK(json["ttft_ms"]["count"] == json["requests"]["fates"]["finished"]);
  CHECK(json["instances"][0]["nodes"].size() == 8);
  CHECK(json["prefix_cache"]["cached_tokens"].get<int>() > 0);
  CHECK(json["goodput"]["good_requests"] == json["requests"]["fates"]["finished"]);
  const std::string first = work.read("a.json"), each = work.read("each.csv");
  CHECK(std::count(each.begin(), each.end(), '\n') == 6);
  REQUIRE(work.tessera(command).exit_code == 0);
  CHECK(work.read("a.json") == first);
  CHECK(work.read("each.csv") == each);
}

TEST_CASE("replay: --help defines every metric that is shown") {
  const Workplace work;
  work.write("t.csv", kTrace);
  const std::string help = work.tessera({"replay", "--help"}).out;
  const Outcome shown = work.tessera({"replay", "t.csv", "--experiment", "tiny_kimi_cascade", "--set",
                                      "serving={replicas: 2, prefill_replicas: 1}", "--fidelity", "funnel",
                                      "--funnel-steps", "1", "--slo-ttft-ms", "1000"});
  INFO(shown.err);
  REQUIRE(shown.exit_code == 0);
  for (const char* metric : {"queue",      "TTFT",    "TPOT",         "ITL",        "end to end", "hand over",
                             "throughput", "goodput", "prefix cache", "waiting",    "running",    "requests",
                             "steps",      "busy",    "GPU",          "nodes busy", "prefilled",  "decoded",
                             "preempted",  "memory",  "interpolated", "Funnel"}) {
    INFO(metric);
    CHECK(shown.out.find(metric) != std::string::npos);
    // A list of definitions: at the margin, or behind a semicolon.
    const std::string word = metric == std::string{"Funnel"} ? "funnel" : metric;
    CHECK((help.find("\n  " + word + " ") != std::string::npos ||
           help.find("; " + word + ":") != std::string::npos));
  }
}

TEST_CASE("replay: the funnel says how far it is from simulating every step, and is") {
  const Workplace work;
  work.write("t.csv", "arrival_s,input_tokens,output_tokens\n0,300,20\n0.01,100,20\n");
  const auto serve = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words{"replay", "t.csv", "--experiment", "tiny_kimi_cascade", "--json", "-"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = work.tessera(words);
    INFO(outcome.err);
    REQUIRE(outcome.exit_code == 0);
    return parse(outcome.out);
  };
  const nlohmann::json cost = serve({}), all = serve({"--fidelity", "funnel", "--funnel-steps", "1000"}),
                       some = serve({"--fidelity", "funnel", "--funnel-steps", "3"});
  CHECK_FALSE(cost["step_times"].contains("funnel"));
  CHECK(all["step_times"]["funnel"]["share_of_time"].get<double>() > 0.999);
  const auto& funnel = some["step_times"]["funnel"];
  CHECK(funnel["simulated_steps"] == 3);
  CHECK(funnel["share_of_time"].get<double>() < 1);
  const auto mean = [](const nlohmann::json& json, const char* metric) {
    return json[metric]["mean"].get<double>();
  };
  const double stated = funnel["left_out_error_percent"].get<double>();
  CHECK(stated > 0);
  for (const char* metric : {"ttft_ms", "tpot_ms", "e2e_ms"}) {
    INFO(metric << ": " << mean(cost, metric) << ", " << mean(some, metric) << ", " << mean(all, metric));
    CHECK(100 * std::abs(mean(some, metric) / mean(all, metric) - 1) < stated);
  }
}

TEST_CASE("replay: prefill apart from decoding, more requests, a window, an end") {
  const Workplace work;
  work.write("t.csv", kTrace);
  const Outcome outcome =
      work.tessera({"replay", "t.csv", "--experiment", "tiny_kimi_cascade", "--set", "sharding=single",
                    "--set", "serving={replicas: 3, prefill_replicas: 1}", "--rate-scale", "2.5", "--until",
                    "0.15", "--stop", "0.101", "--json", "-"});
  REQUIRE(outcome.exit_code == 0);
  const nlohmann::json json = parse(outcome.out);
  CHECK(json["instances"][0]["role"] == "prefill");
  CHECK(json["instances"][2]["role"] == "decode");
  CHECK(json["instances"][0]["decoded_tokens"] == 0);
  CHECK(sum(json["requests"]["fates"]) == json["requests"]["arrived"]);
  CHECK(json["simulated_s"].get<double>() <= 0.101);
}

TEST_CASE("replay: bad lines are named, or counted") {
  const Workplace work;
  work.write("t.csv", kTrace + "0.3,-5,1,\n");
  require_bad_input(work.tessera({"replay", "t.csv", "--experiment", "tiny_kimi_cascade"}),
                    {"t.csv:7", "input_tokens", "-5"});
  const Outcome outcome =
      work.tessera({"replay", "t.csv", "--experiment", "tiny_kimi_cascade", "--skip-bad", "--json", "-"});
  REQUIRE(outcome.exit_code == 0);
  CHECK(parse(outcome.out)["skipped_lines"]["count"] == 1);
  require_bad_input(work.tessera({"replay", "none.csv", "--experiment", "tiny_kimi_cascade"}), {"none.csv"});
  require_bad_input(work.tessera({"replay", "t.csv", "--experiment", "tiny_kimi_cascade", "--set",
                                  "serving.routing=least_request"}),
                    {"least_requests"});
  require_bad_input(
      work.tessera({"replay", "t.csv", "--experiment", "tiny_kimi_cascade", "--format", "azur"}), {"azure"});
}

TEST_CASE("trace: stats, validate, and conversion there and back") {
  const Workplace work;
  work.write("t.csv", kTrace);
  const nlohmann::json stats = parse(work.tessera({"trace", "stats", "t.csv", "--json", "-"}).out);
  CHECK(stats["requests"] == 5);
  CHECK(stats["blocks"]["named_before"] == 3);
  REQUIRE(work.tessera({"trace", "convert", "t.csv", "--to", "mooncake", "--out", "t.jsonl"}).exit_code == 0);
  REQUIRE(work.tessera({"trace", "convert", "t.jsonl", "--to", "csv", "--out", "back.csv"}).exit_code == 0);
  CHECK(work.read("back.csv") == kTrace);
  CHECK(work.tessera({"trace", "validate", "t.jsonl"}).exit_code == 0);
  CHECK(work.tessera({"trace", "head", "t.jsonl", "-n", "2"}).out.find("0.001000 s") != std::string::npos);
  work.write("bad.csv", kTrace + "x,1,1,\n0.1,1,1,\n");
  const Outcome bad = work.tessera({"trace", "validate", "bad.csv"});
  CHECK(bad.exit_code == 2);
  CHECK(bad.err.find("bad.csv:7") != std::string::npos);
  CHECK(bad.err.find("bad.csv:8") != std::string::npos);
}

TEST_CASE("trace: recorded choices of blocks and experts") {
  const Workplace work;
  work.write("s.jsonl", R"({"selection_trace": 1, "tokens": 64, "heads": 2, "block": 16}
{"layer": 0, "head": 0, "tokens": [32, 40], "blocks": [0, 1]}
{"layer": 0, "head": 1, "tokens": [48, 64], "blocks": [2]}
)");
  work.write("r.jsonl", R"({"routing_trace": 1, "experts": 4, "topk": 2}
{"layer": 3, "tokens": [0, 10], "experts": [3, 1]}
)");
  const nlohmann::json selection = parse(work.tessera({"trace", "stats", "s.jsonl", "--json", "-"}).out);
  CHECK(selection["kind"] == "selection");
  CHECK(selection["layers"][0]["pairs"] == 32);
  const nlohmann::json routing = parse(work.tessera({"trace", "stats", "r.jsonl", "--json", "-"}).out);
  CHECK(routing["kind"] == "routing");
  CHECK(routing["layers"][0]["tokens"] == 10);
  CHECK(routing["layers"][0]["imbalance"] == 2.0);
  CHECK(work.tessera({"trace", "head", "s.jsonl", "-n", "1"}).out.find("32-39") != std::string::npos);
  CHECK(work.tessera({"trace", "validate", "r.jsonl"}).exit_code == 0);
  CHECK(work.tessera({"trace", "convert", "s.jsonl"}).out ==
        "layer,head,first_token,end_token,blocks\n0,0,32,40,0 1\n0,1,48,64,2\n");
  work.write("bad.jsonl", work.read("r.jsonl") +
                              "{\"layer\": 3, \"tokens\": [10, 12], \"experts\": [3, 4]}\n" +
                              "nonsense\n{\"layer\": 4, \"tokens\": [0, 1], \"experts\": [0, 1]}\n");
  const Outcome bad = work.tessera({"trace", "validate", "bad.jsonl"});
  CHECK(bad.exit_code == 2);
  CHECK(bad.err.find("bad.jsonl:3: experts") != std::string::npos);
  CHECK(bad.err.find("bad.jsonl:4: not JSON") != std::string::npos);
  CHECK(bad.err.find("2 of 4") != std::string::npos);
  require_bad_input(work.tessera({"trace", "convert", "bad.jsonl", "--out", "none.csv"}), {"bad.jsonl:3"});
  const Outcome skipped = work.tessera({"trace", "convert", "bad.jsonl", "--skip-bad", "--out", "good.csv"});
  CHECK(skipped.exit_code == 0);
  CHECK(work.read("good.csv") == "layer,first_token,end_token,experts\n3,0,10,3 1\n4,0,1,0 1\n");
  const nlohmann::json counted =
      parse(work.tessera({"trace", "stats", "bad.jsonl", "--skip-bad", "--json", "-"}).out);
  CHECK(counted["skipped_records"] == 2);
  CHECK(counted["layers"].size() == 2);
  require_bad_input(work.tessera({"trace", "stats", "bad.jsonl"}), {"bad.jsonl:3"});
  require_bad_input(work.tessera({"trace", "convert", "r.jsonl", "--to", "mooncake"}), {"--to", "csv"});
}

TEST_CASE("replay: a timeline of instances, steps and requests") {
  const Workplace work;
  work.write("t.csv", kTrace);
  for (const char* file : {"t.json", "t.pftrace", "t.vcd"}) {
    REQUIRE(work.tessera({"replay", "t.csv", "--experiment", "tiny_kimi_cascade", "--set", "sharding=single",
                          "--set", "serving={replicas: 2, prefill_replicas: 1}", "--timeline", file})
                .exit_code == 0);
  }
  const nlohmann::json events = parse(work.read("t.json"))["traceEvents"];
  std::int64_t decoded = 0, handed_over = 0, finished = 0;
  std::map<std::int64_t, std::string> arrows;  // by id: their events
  for (const nlohmann::json& e : events) {
    if (e["ph"] == "s" || e["ph"] == "f") arrows[e["id"].get<std::int64_t>()] += e["ph"].get<std::string>();
    if (e["ph"] != "X") continue;
    if (e["args"].contains("steps")) decoded += e["args"]["decoded_tokens"].get<std::int64_t>();
    handed_over += e["cat"] == "handover";
    finished += e["cat"] == "decode" && e["args"].contains("fate") && e["args"]["fate"] == "finished";
  }
  // The third asks for no token, the fourth is longer than the model's positions; first tokens are prefills'.
  CHECK(decoded == 5 + 3 + 20 - 3);
  REQUIRE(arrows.size() == 3);
  for (const auto& [id, events_of] : arrows) CHECK(events_of == "sf");
  CHECK(handed_over == 3);
  CHECK(finished == 3);
  CHECK(work.read("t.pftrace").find("cache memory held") != std::string::npos);
  CHECK(work.read("t.vcd").find("waiting_requests") != std::string::npos);
}

TEST_CASE("trace operators: known kernels at our prices, the others as recorded") {
  const Workplace work;
  work.write("k.json", R"({"traceEvents": [
{"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 1, "dur": 1, "args": {"External id": 1, "Input Dims": [[4096, 4096], [4096, 4096]], "Input type": ["c10::BFloat16", "c10::BFloat16"]}},
{"ph": "X", "cat": "kernel", "name": "gemm", "ts": 10, "dur": 500, "args": {"External id": 1, "stream": 7, "device": 0}},
{"ph": "X", "cat": "kernel", "name": "mystery", "ts": 510, "dur": 100, "args": {"External id": 2, "stream": 7, "device": 0}}]})");
  const nlohmann::json json = parse(work.tessera({"trace", "operators", "k.json", "--json", "-"}).out);
  CHECK(json["operators"]["nodes"] == 1);
  CHECK(json["largest_fixed"][0]["name"] == "mystery");
  CHECK(json["recorded_us"] == 600);
  const auto gemm = json["operators"]["replayed_us"].get<double>();
  CHECK(gemm > 137);  // 137 GFLOP at a petaflop
  CHECK(gemm < 400);
  CHECK(json["replayed_us"].get<double>() == 100 + gemm);

  CHECK(work.tessera({"trace", "convert", "k.json", "--out", "k.csv"}).exit_code == 0);
  CHECK(work.read("k.csv") ==
        "node,kind,recorded_us,delay_us,after,operator,name\n"
        "0,kernel,500,0,,gemm 4096x4096x4096 bf16,gemm\n1,kernel,100,0,0,,mystery\n");
  const std::string head = work.tessera({"trace", "head", "k.json", "-n", "1"}).out;
  CHECK(head.find("2 nodes") != std::string::npos);
  CHECK(head.find("gemm 4096x4096x4096 bf16") != std::string::npos);
  CHECK(head.find("mystery") == std::string::npos);
  require_bad_input(work.tessera({"trace", "convert", "k.json", "--to", "mooncake"}),
                    {"--to mooncake", "csv"});
}

TEST_CASE("run: a timeline's format is that of its name") {
  const Workplace work;
  for (const char* file : {"t.json", "t.pftrace", "t.vcd"}) {
    REQUIRE(work.tessera({"run", "tiny_cascade", "--fidelity", "cost", "--timeline", file}).exit_code == 0);
  }
  CHECK(parse(work.read("t.json")).contains("traceEvents"));
  CHECK(work.read("t.vcd").starts_with("$timescale 1 ns $end\n"));
  const std::string protobuf = work.read("t.pftrace");
  CHECK(protobuf.front() == '\x0A');  // field 1, a message: a packet
  CHECK(protobuf.find("compute stream") != std::string::npos);
  CHECK(work.files().size() == 3);
}
