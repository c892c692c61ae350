#include <catch2/catch_test_macros.hpp>

#include "tests/cli/command.hpp"

using namespace tessera::cli_test;

TEST_CASE("validate --published: every published figure is met within its tolerance") {
  const Workplace work;
  const Outcome outcome = work.tessera({"validate", "--published", "--json", "-"});
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
  REQUIRE(held >= 20);
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
