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
