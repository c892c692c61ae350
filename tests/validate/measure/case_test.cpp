// A whole measurement on the emulated device: rows, resumption, and kernels that fail, crash or hang.

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "configs/reader/document.hpp"
#include "validate/measure/run.hpp"

namespace tessera::measure {

namespace {

struct Scratch {
  std::filesystem::path file;
  std::FILE* report = std::tmpfile();
  Scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "measure_XXXXXX").string();
    const int fd = ::mkstemp(name.data());
    if (fd >= 0) std::filesystem::remove(name);
    file = name;
  }
  ~Scratch() {
    std::filesystem::remove(file);
    std::fclose(report);
  }
  std::string text() const {
    std::ifstream in{file, std::ios::binary};
    return {std::istreambuf_iterator<char>{in}, {}};
  }
  std::vector<Json> rows() const {
    std::vector<Json> rows;
    std::ifstream in{file};
    for (std::string line; std::getline(in, line);) rows.push_back(Json::parse(line));
    return rows;
  }
};

Suite suite_of(const std::string& runs) {
  return parse_suite("name: s\ntiming: {warm_up_ms: 1, sample_ms: 0.1, samples: 20}\nruns:\n" + runs,
                     "s.yaml");
}
const char* const kTwo = "  a: {kernel: sum rows=2 inputs=4 width=8}\n  b: {kernel: memcpy bytes=1024}\n";

RunSummary run(const Suite& suite, const Scratch& scratch, const Emulation& emulation = {},
               double limit_s = 60, const std::string& revision = "r1") {
  RunOptions options{
      .out = scratch.file, .revision = revision, .case_limit_s = limit_s, .report = scratch.report};
  options.open_device = [emulation] { return make_emulated_device(emulation); };
  return run_suite(suite, options);
}

}  // namespace

TEST_CASE("a row says what was measured, on what, and how") {
  const Scratch scratch;
  const RunSummary summary = run(suite_of(kTwo), scratch);
  CHECK(summary.measured == 2);
  const std::vector<Json> rows = scratch.rows();
  REQUIRE(rows.size() == 2);
  const Json& row = rows[0];
  CHECK(row["kind"] == "sum");
  CHECK(row["args"]["width"] == 8);
  CHECK(row["latency_us"]["median"] > 0);
  CHECK(row["latency_us"]["outliers"].size() == 1);  // the emulation disturbs one sample of 17
  CHECK(row["samples_us"].size() == 20);
  CHECK(row["revision"] == "r1");
  CHECK(row["suite"]["hash"].get<std::string>().size() == 16);
  CHECK(row["device"]["name"] == "emulated");
  CHECK(row["device"]["ecc"] == true);
  CHECK(row["sensors"]["at_work"]["power_w"] > 0);
  CHECK(row["check"]["elements"] == 16);
}

TEST_CASE("a measurement resumes, appends, and overwrites nothing") {
  const Scratch scratch;
  run(suite_of("  a: {kernel: sum rows=2 inputs=4 width=8}\n"), scratch);
  const std::string before = scratch.text();
  const RunSummary again = run(suite_of(kTwo), scratch);
  CHECK(again.already_there == 1);
  CHECK(again.measured == 1);
  CHECK(scratch.text().substr(0, before.size()) == before);
  CHECK(scratch.rows().size() == 2);

  SECTION("a line that an interruption cut off is measured again") {
    std::filesystem::resize_file(scratch.file, std::filesystem::file_size(scratch.file) - 9);
    CHECK(run(suite_of(kTwo), scratch).measured == 1);
    CHECK(scratch.rows().size() == 2);
  }
  SECTION("other timing rules are another measurement") {
    Suite other = suite_of(kTwo);
    other.timing.samples = 7;
    CHECK(run(other, scratch).measured == 2);
    CHECK(scratch.rows().size() == 4);
  }
  SECTION("a file of something else is left alone") {
    std::ofstream{scratch.file, std::ios::app} << "m,n,k\n";
    const std::string all = scratch.text();
    CHECK_THROWS_AS(run(suite_of(kTwo), scratch), config::InputError);
    CHECK(scratch.text() == all);
  }
}

TEST_CASE("a kernel that computes something else is not timed") {
  const Scratch scratch;
  const RunSummary summary = run(suite_of(kTwo), scratch, {.wrong_kind = "sum"});
  CHECK(summary.failed == 1);
  CHECK(summary.measured == 1);
  const Json row = scratch.rows()[0];
  CHECK_THAT(row["failed"].get<std::string>(), Catch::Matchers::ContainsSubstring("expected"));
  CHECK_FALSE(row.contains("latency_us"));
}

TEST_CASE("what failed is measured again by another revision of the source only") {
  const Scratch scratch;
  CHECK(run(suite_of(kTwo), scratch, {.wrong_kind = "sum"}).failed == 1);
  CHECK(run(suite_of(kTwo), scratch).already_there == 2);
  const RunSummary mended = run(suite_of(kTwo), scratch, {}, 60, "r2");
  CHECK(mended.measured == 1);
  CHECK(mended.already_there == 1);
  CHECK(scratch.rows().size() == 3);
}

TEST_CASE("a check that could not be run was not passed, for the cases that follow either") {
  const Scratch scratch;
  const Suite sums = suite_of("  a: {kernel: \"sum rows=2 inputs=4 width=8,16,24\"}\n");
  CHECK(run(sums, scratch, {.refused = "sum rows=3 inputs=12 width=40"}).failed == 3);
}

TEST_CASE("the process that measures ends with the one that watches it") {
  const Scratch scratch;
  const pid_t watcher = ::fork();
  if (watcher == 0) {
    run(suite_of(kTwo), scratch, {.hang_kind = "sum"});
    _exit(0);
  }
  // The worker has begun once the file is there; its process is in the watcher's group of children.
  std::string worker;
  for (int i = 0; i < 400 && worker.empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
    std::ifstream in{"/proc/" + std::to_string(watcher) + "/task/" + std::to_string(watcher) + "/children"};
    in >> worker;
  }
  REQUIRE_FALSE(worker.empty());
  // Past the worker's first instructions.
  std::this_thread::sleep_for(std::chrono::milliseconds{50});
  ::kill(watcher, SIGKILL);
  ::waitpid(watcher, nullptr, 0);
  const auto gone = [&] {
    std::ifstream in{"/proc/" + worker + "/stat"};
    std::string text;
    std::getline(in, text);
    return text.empty() || text.find(") Z") != std::string::npos;
  };
  for (int i = 0; i < 400 && !gone(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds{5});
  CHECK(gone());
}

TEST_CASE("a figure has a median and a spread") {
  const Scratch scratch;
  CHECK(
      run(suite_of("  a: {microbench: launch_graph}\n  b: {microbench: clock_random}\n"), scratch).measured ==
      2);
  const Json launch = scratch.rows()[0]["figure"];
  CHECK(launch["unit"] == "us");
  CHECK(launch["sd"] > 0);
  CHECK(launch["outliers"].size() == 1);
  CHECK(scratch.rows()[1]["figure"]["unit"] == "MHz");
}

TEST_CASE("results are held to what their type allows") {
  const Tolerance tolerance;
  CHECK(tolerance.of(Element::bf16) == 0.03);
  CHECK(tolerance.of(Element::f32) == 1e-3);
  CHECK(tolerance.of(Element::i32) == 0);
  // A mean in fp32 that is off by what bf16 would be off.
  const Scratch scratch;
  run(suite_of("  a: {kernel: block_pool kv_rows=64 kv_heads=1 head_dim=64 block=64}\n"), scratch);
  CHECK(scratch.rows()[0]["check"]["allowed"] == 1e-3);
}

TEST_CASE("a kernel that ends its process costs its own row only") {
  const Scratch scratch;
  const RunSummary summary = run(suite_of(kTwo), scratch, {.crash_kind = "sum"});
  CHECK(summary.failed == 1);
  CHECK(summary.measured == 1);
  CHECK_THAT(scratch.rows()[0]["failed"].get<std::string>(), Catch::Matchers::ContainsSubstring("code 77"));
}

TEST_CASE("a kernel that never ends is given up") {
  const Scratch scratch;
  const RunSummary summary = run(suite_of(kTwo), scratch, {.hang_kind = "sum"}, 0.5);
  CHECK(summary.failed == 1);
  CHECK(summary.measured == 1);
  CHECK_THAT(scratch.rows()[0]["failed"].get<std::string>(), Catch::Matchers::ContainsSubstring("given up"));
}

TEST_CASE("a library that is missing skips its rows, which are measured once it is there") {
  const Scratch scratch;
  const RunSummary summary = run(suite_of(kTwo), scratch, {.no_library_kind = "sum"});
  CHECK(summary.skipped == 1);
  CHECK(summary.measured == 1);
  CHECK_THAT(scratch.rows()[0]["skipped"].get<std::string>(),
             Catch::Matchers::ContainsSubstring("TESSERA_CUDNN"));
  const RunSummary again = run(suite_of(kTwo), scratch);
  CHECK(again.measured == 1);
  CHECK(again.already_there == 1);
  CHECK(scratch.rows().back()["kind"] == "sum");
}

TEST_CASE("what does not fit in memory is skipped, and said to be") {
  const Scratch scratch;
  const RunSummary summary = run(suite_of("  a: {kernel: \"memcpy bytes=1024,4Gi\"}\n"), scratch,
                                 {.memory_bytes = std::int64_t{1} << 30});
  CHECK(summary.measured == 1);
  CHECK(summary.skipped == 1);
  CHECK_THAT(scratch.rows()[1]["skipped"].get<std::string>(),
             Catch::Matchers::ContainsSubstring("GiB are free"));
}

TEST_CASE("cold operands take turns until the L2 is passed over") {
  const Scratch scratch;
  run(suite_of("  a: {kernel: memcpy bytes=8Mi l2=cold}\n"), scratch);
  const Json row = scratch.rows()[0];
  CHECK(row["sets"] == 11);  // 3 x 50 MiB over 16 MiB, and one
  CHECK(row["args"]["l2"] == "cold");
}

TEST_CASE("stages are timed by themselves") {
  const Scratch scratch;
  run(suite_of("  a: {kernel: kda_prefill seq=64 heads=1}\n"), scratch);
  const Json row = scratch.rows()[0];
  REQUIRE(row["stages"].size() == 5);
  CHECK(row["stages"][3]["name"] == "state_pass");
  CHECK_FALSE(row["unlike"].get<std::string>().empty());
}

TEST_CASE("without a GPU a measurement says what it expected") {
  if (has_cuda()) SKIP("this build may find a GPU");
  RunOptions options{.check_only = true};
  options.open_device = [] { return make_cuda_device(0); };
  try {
    run_suite(suite_of(kTwo), options);
    FAIL("no GPU was missed");
  } catch (const std::runtime_error& e) {
    CHECK_THAT(e.what(), Catch::Matchers::ContainsSubstring("expected"));
  }
}

}  // namespace tessera::measure
