#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <sstream>

#include "tests/cli/command.hpp"

using namespace tessera::cli_test;

TEST_CASE("validate --published: every published figure is met within its tolerance") {
  // Whole kernels in cycle detail take seconds each: they are left to the command.
  const Workplace work;
  std::vector<std::string> arguments{"validate", "--published"};
  for (const char* folder : {"validate/published", "configs/experiments/published"}) {
    for (const auto& file :
         std::filesystem::directory_iterator{std::filesystem::path{TESSERA_SOURCE_DIR} / folder}) {
      std::istringstream whole{work.read(file.path().string())};
      std::string quick;
      for (std::string line; std::getline(whole, line);)
        if (line.find("fidelity: cycle") == std::string::npos && line.find("_cycle,") == std::string::npos)
          quick += line + "\n";
      arguments.push_back(file.path().filename().string());
      work.write(arguments.back(), quick);
    }
  }
  std::sort(arguments.begin() + 2, arguments.end());
  arguments.insert(arguments.end(), {"--json", "-"});
  const Outcome outcome = work.tessera(arguments);
  INFO(outcome.err << outcome.out);
  REQUIRE(outcome.exit_code == 0);
  int held = 0;
  const nlohmann::json json = parse(outcome.out);
  for (const auto& figure : json.at("published")) {
    if (!figure.contains("published")) continue;
    ++held;
    INFO(figure.dump());
    REQUIRE(figure["within"].get<bool>());
    REQUIRE(figure["source"].get<std::string>().size() > 10);
  }
  REQUIRE(held >= 100);
}

TEST_CASE("validate --published: a figure that is missed ends with 3, bad files with 2") {
  const Workplace work;
  const auto figure = [&](const std::string& text) {
    work.write("f.yaml", "figures:\n  - {" + text + "}\n");
    return work.tessera({"validate", "--published", "f.yaml"});
  };
  const std::string good =
      "run: wgmma_n64, hardware: h100_sxm, unit: cycles, source: s, tolerance_percent: 3, value: ";
  REQUIRE(figure(good + "32").exit_code == 0);
  const Outcome missed = figure(good + "48");
  REQUIRE(missed.exit_code == 3);
  REQUIRE(missed.out.find("MISSED") != std::string::npos);
  require_bad_input(figure("run: wgma_n64, hardware: h100_sxm, unit: cycles, source: s"),
                    {"f.yaml:2", "run", "wgmma_n64"});
  require_bad_input(figure("run: wgmma_n64, hardware: h100_sxm, unit: s, source: s"), {"expected cycles"});
  require_bad_input(figure(good + "32, sauce: s"), {"sauce"});
  require_bad_input(work.tessera({"validate"}), {"PATH"});
}

TEST_CASE("run published/...: a ratio, a stated setting, a figure's own run") {
  const Workplace work;
  const std::string head =
      "name: p\nsetting: a slow clock\nmax_clock_mhz: 990\n"
      "defaults: {hardware: h100_sxm, unit: us, measure: latency, fidelity: cost, tolerance_percent: 1000, "
      "source: some source}\n"
      "figures:\n  - {run: one, kernel: gemm m=4096 n=4096 k=4096, value: 1}\n";
  work.write("p.yaml", head +
                           "  - {run: two, kernel: gemm m=4096 n=4096 k=8192, value: 2}\n"
                           "  - {run: two, over: one, value: 2, tolerance_percent: 20}\n");
  const Outcome run = work.tessera({"run", "./p.yaml", "--json", "-"});
  INFO(run.err);
  REQUIRE(run.exit_code == 3);  // a product takes more than 1 us
  const nlohmann::json figures = parse(run.out).at("published");
  REQUIRE(figures.size() == 3);
  CHECK(figures[2]["over"] == "one");
  CHECK(figures[2]["unit"] == "x");
  CHECK(figures[2]["within"].get<bool>());
  CHECK(figures[0]["max_clock_mhz"] == 990);
  CHECK(figures[0]["setting"] == "a slow clock");
  work.write("q.yaml", head.substr(0, head.find("max_clock")) + head.substr(head.find("defaults")));
  const nlohmann::json fast = parse(work.tessera({"run", "q.yaml", "--json", "-"}).out).at("published");
  CHECK(figures[0]["simulated"].get<double>() > 1.3 * fast[0]["simulated"].get<double>());
  require_bad_input(work.tessera({"run", "p.yaml", "--set", "a=b"}), {"p.yaml", "--set"});
  work.write("r.yaml", head + "  - {run: one, kernel: gemm m=1 n=1 k=1, value: 1}\n");
  require_bad_input(work.tessera({"run", "r.yaml"}), {"r.yaml:7", "one already"});
  work.write("s.yaml", head + "  - {run: one, over: none, value: 1}\n");
  require_bad_input(work.tessera({"run", "s.yaml"}), {"s.yaml:7", "over"});
}
