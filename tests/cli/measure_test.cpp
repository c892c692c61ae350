// `tessera measure` end to end on the emulated device, and its rows through `tessera validate`.

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "tests/cli/command.hpp"

namespace tessera::cli_test {

using Catch::Matchers::ContainsSubstring;

namespace {

const char* const kSuite =
    "name: small\ntiming: {warm_up_ms: 1, samples: 5}\nruns:\n  a: {kernel: gemm m=64 n=64 k=64}\n"
    "  b: {kernel: norm rows=4 width=64}\n  c: {kernel: kda_decode heads=1}\n  d: {microbench: l2_latency}\n";

}  // namespace

TEST_CASE("rows that were measured are validated, explained, or left out with a reason") {
  const Workplace place;
  place.write("s.yaml", kSuite);
  const Outcome measured = place.tessera({"measure", "./s.yaml", "--device", "emulated", "--out", "f.jsonl"});
  INFO(measured.err);
  REQUIRE(measured.exit_code == 0);
  CHECK_THAT(measured.out, ContainsSubstring("4 measured, 0 skipped, 0 failed"));

  const Outcome validated =
      place.tessera({"validate", "f.jsonl", "--hardware", "h200_sxm", "--fidelity", "cost"});
  INFO(validated.err);
  REQUIRE(validated.exit_code == 0);
  CHECK_THAT(validated.out, ContainsSubstring("3 rows held against"));
  CHECK_THAT(validated.out, ContainsSubstring("a figure, not a kernel"));

  const Outcome explained =
      place.tessera({"validate", "f.jsonl", "--hardware", "h200_sxm", "--explain", "1"});
  INFO(explained.err);
  REQUIRE(explained.exit_code == 0);
  CHECK_THAT(explained.out, ContainsSubstring("gemm k=64 m=64 n=64"));
  CHECK_THAT(explained.out, ContainsSubstring("simulated kernels"));
  CHECK_THAT(explained.out, ContainsSubstring("launches and gaps"));
  require_bad_input(place.tessera({"validate", "f.jsonl", "--hardware", "h200_sxm", "--explain", "4"}),
                    {"--explain 4", "f.jsonl:1"});
}

TEST_CASE("what the kernels choose becomes traces that other commands take") {
  const Workplace place;
  place.write("s.yaml",
              "name: gates\nruns:\n  a: {kernel: moba_prefill seq=300 heads=2 kv_heads=1 block=64 topk=3 "
              "head_dim=64}\n  b: {kernel: moe_router tokens=40 experts=16 topk=2}\n"
              "  c: {kernel: norm rows=4 width=64}\n"
              "  d: {kernel: moba_prefill seq=32Ki heads=8 block=512 topk=3}\n");
  const auto record = [&](const std::string& folder, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"measure", "./s.yaml", "--device", "emulated", "--choices", folder};
    words.insert(words.end(), more.begin(), more.end());
    return place.tessera(words);
  };
  const Outcome recorded = record("chosen");
  INFO(recorded.err);
  REQUIRE(recorded.exit_code == 0);
  CHECK_THAT(recorded.out, ContainsSubstring("2 recorded, 1 skipped, 0 failed"));
  CHECK_THAT(recorded.out, ContainsSubstring("a kernel of this size is not emulated"));
  const std::string blocks =
                        "chosen/moba_prefill-seq-300-heads-2-kv_heads-1-block-64-topk-3-head_dim-64.jsonl",
                    experts = "chosen/moe_router-tokens-40-experts-16-topk-2.jsonl";
  CHECK_THAT(place.tessera({"trace", "validate", blocks}).out, ContainsSubstring("nothing wrong"));
  const auto stats = parse(place.tessera({"trace", "stats", experts, "--json", "-"}).out);
  CHECK(stats["layers"][0]["tokens"] == 40);

  const Outcome moba = place.tessera({"kernel", "moba_prefill", "seq=300", "heads=2", "kv_heads=1",
                                      "block=64", "topk=3", "head_dim=64", "selection=trace:" + blocks,
                                      "--hardware", "h200_sxm", "--fidelity", "cost", "--json", "-"});
  INFO(moba.err);
  CHECK(parse(moba.out)["latency_us"].get<double>() > 0);
  const Outcome moe = place.tessera({"kernel", "moe", "tokens=40", "hidden=256", "intermediate=128",
                                     "experts=16", "topk=2", "distribution=trace:" + experts, "--hardware",
                                     "h200_sxm", "--fidelity", "cost", "--json", "-"});
  INFO(moe.err);
  CHECK(parse(moe.out)["latency_us"].get<double>() > 0);

  REQUIRE(record("again").exit_code == 0);
  CHECK(place.read("again/" + blocks.substr(7)) == place.read(blocks));
  REQUIRE(record("other", {"--seed", "2"}).exit_code == 0);
  CHECK(place.read("other/" + blocks.substr(7)) != place.read(blocks));
  require_bad_input(record("chosen", {"--out", "rows.jsonl"}), {"--out", "nothing is timed"});
  place.write("none.yaml", "name: none\nruns:\n  a: {kernel: norm rows=4 width=64}\n");
  require_bad_input(place.tessera({"measure", "./none.yaml", "--device", "emulated", "--choices", "chosen"}),
                    {"no case of none chooses", "moe_router"});
}

TEST_CASE("bad suites and devices are refused") {
  const Workplace place;
  place.write("s.yaml", kSuite);
  CHECK(place.tessera({"measure", "./s.yaml"}).exit_code == 2);  // no --out
  const Outcome device = place.tessera({"measure", "./s.yaml", "--check", "--device", "first"});
  CHECK(device.exit_code == 2);
  CHECK_THAT(device.err, ContainsSubstring("expected the number of a GPU"));
  require_bad_input(place.tessera({"measure", "quik", "--estimate"}), {"quick"});
  CHECK_THAT(place.tessera({"measure", "./s.yaml", "--estimate"}).out, ContainsSubstring("4 cases, about"));
}

}  // namespace tessera::cli_test
