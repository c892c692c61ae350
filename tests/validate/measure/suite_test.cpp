#include "validate/measure/suite.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <filesystem>

#include "configs/reader/document.hpp"
#include "validate/measure/kinds.hpp"
#include "validate/measure/run.hpp"
#include "validate/measure/spread_of_times.hpp"

namespace tessera::measure {

namespace {

Suite parse(const std::string& runs) { return parse_suite("name: s\nruns:\n" + runs, "s.yaml"); }
std::string complaint(const std::string& runs) {
  try {
    parse(runs);
  } catch (const config::InputError& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a list of values stands for every combination") {
  const Suite s = parse("  a: {kernel: \"gemm m=1,2 n=64 k=64,128\"}\n  b: {kernel: gemm m=1 n=64 k=64}\n");
  REQUIRE(s.cases.size() == 4);  // b's is there already
  CHECK(s.cases[0].request.text() == "gemm m=1 n=64 k=64");
  CHECK(s.cases[3].request.text() == "gemm m=2 n=64 k=128");
}

TEST_CASE("what cannot be measured is refused with file, line and the nearest name") {
  using Catch::Matchers::ContainsSubstring;
  CHECK_THAT(complaint("  a: {kernel: gem m=1}\n"), ContainsSubstring("did you mean 'gemm'"));
  CHECK_THAT(complaint("  a: {kernel: gem m=1}\n"), ContainsSubstring("s.yaml:3"));
  CHECK_THAT(complaint("  a: {kernel: gemm m=1 n=8 kk=8}\n"), ContainsSubstring("unknown key 'kk'"));
  CHECK_THAT(complaint("  a: {kernel: gemm m=1 n=8}\n"), ContainsSubstring("missing k"));
  CHECK_THAT(complaint("  a: {kernel: gemm m=-1 n=8 k=8}\n"), ContainsSubstring("above 0"));
  CHECK_THAT(complaint("  a: {kernel: gemm m=1 n=8 k=8 m=2}\n"), ContainsSubstring("given twice"));
  CHECK_THAT(complaint("  a: {kernel: gemm m=1 n=8 k=8 l2=hot}\n"), ContainsSubstring("warm or cold"));
  CHECK_THAT(complaint("  a: {microbench: l2_latenzy}\n"), ContainsSubstring("l2_latency"));
  CHECK_THAT(complaint("  a: {microbench: l2_latency, sample: 3}\n"), ContainsSubstring("sample"));
}

TEST_CASE("the suites that come with Tessera can be read, and quick takes five minutes") {
  const std::filesystem::path folder = TESSERA_SOURCE_DIR "/configs/suites";
  int suites = 0;
  for (const auto& file : std::filesystem::directory_iterator{folder}) {
    const Suite suite = read_suite(file.path());
    CHECK(suite.name == file.path().stem());
    CHECK(suite.cases.size() > 5);
    ++suites;
    if (suite.name == "quick") CHECK(estimated_s(suite, {}, 4e14, 3e12) < 300);
  }
  CHECK(suites >= 5);
}

TEST_CASE("outliers are marked and kept") {
  std::vector<double> samples(20, 10.0);
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i] += 0.01 * static_cast<double>(i % 5);
  samples[7] = 15;
  const Times t = spread_of(samples);
  CHECK(t.outliers == std::vector<std::size_t>{7});
  CHECK(t.most == 15);
  CHECK(t.median > 10);
  CHECK(t.median < 10.05);
  CHECK(t.mean > 10.2);  // kept
  CHECK_THROWS_AS(spread_of({}), std::invalid_argument);
  CHECK(spread_of({3}).sd == 0);
}

}  // namespace tessera::measure
