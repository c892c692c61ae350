// Recorded selections and routings on the command line.

#include <catch2/catch_test_macros.hpp>

#include "tests/cli/command.hpp"

using namespace tessera::cli_test;

namespace {

/// Blocks of 32 tokens, 4 heads of 256: every token takes the first block, in a layer of its own.
std::string first_block(int layer) {
  std::string text = "{\"selection_trace\": 1, \"tokens\": 256, \"heads\": 4, \"block\": 32}\n";
  for (int head = 0; head < 4; ++head)
    text += "{\"layer\": " + std::to_string(layer) + ", \"head\": " + std::to_string(head) +
            ", \"tokens\": [32, 256], \"blocks\": [0]}\n";
  return text;
}

/// The tiny model with MoBA, and an experiment over it.
void write_experiment(const Workplace& work, const std::string& workload) {
  const std::string source = TESSERA_SOURCE_DIR;
  work.write("tiny_moba.yaml",
             work.read(source + "/configs/models/tiny.yaml") + "moba: {block: 32, topk: 2}\n");
  work.write(
      "e.yaml",
      "name: e\nmodel: tiny_moba.yaml\nhardware: {comp: h200_sxm, attn: h200_sxm}\nfabric: nvlink4_nvswitch\n"
      "sharding: cascade_4x2\nworkload: {prefill_tokens: 256, " +
          workload + "}\n");
}

}  // namespace

TEST_CASE("a recorded selection is a kernel's and a run's input") {
  const Workplace work;
  work.write("s.jsonl", first_block(0));
  const auto moba = [&](const std::string& selection) {
    return work.tessera({"kernel", "moba_prefill", "seq=256", "heads=4", "kv_heads=2", "head_dim=64",
                         "block=32", "topk=2", "selection=" + selection, "--hardware", "h200_sxm",
                         "--fidelity", "cost", "--json", "-"});
  };
  const Outcome recorded = moba("trace:s.jsonl");
  INFO(recorded.err);
  REQUIRE(recorded.exit_code == 0);
  const Outcome uniform = moba("uniform");
  // As many pairs, but others.
  CHECK(parse(recorded.out)["flops"] == parse(uniform.out)["flops"]);
  CHECK(parse(recorded.out)["latency_us"] != parse(uniform.out)["latency_us"]);
  require_bad_input(moba("trace:none.jsonl"), {"none.jsonl", "No such file"});
  require_bad_input(moba("traec:s.jsonl"), {"selection", "uniform"});

  write_experiment(work, "selection: {trace: s.jsonl}");
  const Outcome run = work.tessera({"run", "e.yaml", "--fidelity", "cost", "--json", "-"});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK(parse(run.out)["latency_us"].get<double>() > 0);
}

TEST_CASE("a recorded selection that is of something else is refused, by name") {
  const Workplace work;
  work.write("bad.jsonl",
             first_block(0) + "{\"layer\": 0, \"head\": 9, \"tokens\": [0, 1], \"blocks\": []}\n");
  const auto run = [&](const std::string& workload) {
    write_experiment(work, workload);
    return work.tessera({"run", "e.yaml", "--fidelity", "cost"});
  };
  require_bad_input(run("selection: {trace: bad.jsonl}"), {"bad.jsonl:6", "head"});
  work.write("two.jsonl", first_block(0) + first_block(3).substr(first_block(3).find('\n') + 1));
  require_bad_input(run("selection: {trace: two.jsonl}"), {"e.yaml", "two.jsonl", "no layer 1"});
  work.write("one.jsonl", first_block(0));
  require_bad_input(run("selection: {trace: one.jsonl}, batch: 2"), {"4 heads", "8"});
  require_bad_input(run("selection: {trace: one.jsonl}, selection_skew: 1"), {"skew"});
  require_bad_input(run("selection: {tarce: one.jsonl}"), {"tarce"});
  write_experiment(work, "selection: {trace: one.jsonl}");
  require_bad_input(work.tessera({"run", "e.yaml", "--fidelity", "cost", "--set", "model.moba.block=64"}),
                    {"blocks of 32", "64"});
}

TEST_CASE("a recorded routing loads experts unevenly") {
  const Workplace work;
  work.write("r.jsonl",
             "{\"routing_trace\": 1, \"experts\": 8, \"topk\": 2}\n{\"layer\": 0, \"tokens\": [0, 60], "
             "\"experts\": [0, 1]}\n"
             "{\"layer\": 0, \"tokens\": [61, 64], \"experts\": [6, 7]}\n");
  const auto moe = [&](const std::string& distribution, const std::string& topk) {
    return work.tessera({"kernel", "moe", "tokens=4096", "hidden=512", "intermediate=512", "experts=8",
                         "topk=" + topk, "distribution=" + distribution, "--hardware", "h200_sxm",
                         "--fidelity", "cost", "--json", "-"});
  };
  const Outcome recorded = moe("trace:r.jsonl", "2");
  INFO(recorded.err);
  REQUIRE(recorded.exit_code == 0);
  CHECK(parse(recorded.out)["latency_us"] != parse(moe("balanced", "2").out)["latency_us"]);
  require_bad_input(moe("trace:r.jsonl", "3"), {"r.jsonl", "2 of 8", "3 of 8"});
}

TEST_CASE("MoBA layers are full from a training step on") {
  const Workplace work;
  write_experiment(work, "decode_steps: 0");
  work.write("tiny_moba.yaml", work.read(std::string{TESSERA_SOURCE_DIR} + "/configs/models/tiny.yaml") +
                                   "moba: {block: 32, topk: 2, full_from_step: 100, step: 99}\n");
  const auto stages = [&](const std::string& step) {
    const Outcome run = work.tessera(
        {"run", "e.yaml", "--fidelity", "cost", "--json", "-", "--set", "model.moba.step=" + step});
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    return run.out;
  };
  CHECK(stages("99").find("gate") != std::string::npos);
  CHECK(stages("100").find("\"gate\"") == std::string::npos);
}

TEST_CASE("what the reference chose is recorded, turned into the binary form and back, and either replayed") {
  const Workplace work;
  const auto run = [&](std::vector<std::string> words) {
    const Outcome outcome = work.tessera(words);
    INFO(outcome.err);
    REQUIRE(outcome.exit_code == 0);
    return outcome.out;
  };
  for (const std::string kind : {"selection", "routing"}) {
    run({"trace", "record", kind, "--tokens", "256", "--heads", "4", "--kv-heads", "2", "--block", "32",
         "--experts", "8", "--topk", "2", "--out", "r.jsonl"});
    run({"trace", "convert", "r.jsonl", "--to", "binary", "--out", "r.tsel"});
    run({"trace", "convert", "r.tsel", "--to", "jsonl", "--out", "again.jsonl"});
    CHECK(work.read("again.jsonl") == work.read("r.jsonl"));
    CHECK(work.read("r.tsel").size() * 5 < work.read("r.jsonl").size());
    auto of_json = parse(run({"trace", "stats", "r.jsonl", "--json", "-"})),
         of_binary = parse(run({"trace", "stats", "r.tsel", "--json", "-"}));
    CHECK(of_json["form"] == "jsonl");
    CHECK(of_binary["form"] == "binary");
    of_json.erase("form");
    of_binary.erase("form");
    CHECK(of_json == of_binary);
    CHECK(run({"trace", "head", "r.tsel"}).find(kind) != std::string::npos);
    CHECK(run({"trace", "validate", "r.tsel"}).find("binary " + kind) != std::string::npos);
    const auto kernel = [&](const std::string& file) {
      std::vector<std::string> words =
          kind == "selection"
              ? std::vector<std::string>{"kernel",   "moba_prefill", "seq=256",
                                         "heads=4",  "kv_heads=2",   "head_dim=64",
                                         "block=32", "topk=2",       "selection=trace:" + file}
              : std::vector<std::string>{
                    "kernel",           "moe",       "tokens=64", "hidden=256",
                    "intermediate=256", "experts=8", "topk=2",    "distribution=trace:" + file};
      words.insert(words.end(), {"--hardware", "h200_sxm", "--fidelity", "cost", "--json", "-"});
      return parse(run(words))["latency_us"].get<double>();
    };
    CHECK(kernel("r.tsel") == kernel("r.jsonl"));
    std::string damaged = work.read("r.tsel");
    damaged[damaged.size() / 2] = static_cast<char>(damaged[damaged.size() / 2] ^ 4);
    work.write("damaged.tsel", damaged);
    const Outcome checked = work.tessera({"trace", "validate", "damaged.tsel"});
    CHECK(checked.exit_code == 2);
    CHECK(checked.err.find("damaged.tsel: byte ") != std::string::npos);
    CHECK(checked.err.find("records are wrong") != std::string::npos);
    require_bad_input(work.tessera({"trace", "stats", "damaged.tsel"}), {"damaged.tsel: byte ", "checksum"});
  }
  require_bad_input(work.tessera({"trace", "convert", "r.tsel", "--to", "mooncake"}),
                    {"csv or jsonl or binary"});
}
