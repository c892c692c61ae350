#include <catch2/catch_test_macros.hpp>

#include "tests/cli/command.hpp"

using namespace tessera::cli_test;

TEST_CASE("list names what can be used") {
  const Workplace work;
  const auto lists = [&](const std::string& what, const std::string& name) {
    const Outcome outcome = work.tessera({"list", what});
    INFO(what << ": " << outcome.out);
    REQUIRE(outcome.exit_code == 0);
    REQUIRE(outcome.out.find(name) != std::string::npos);
    REQUIRE(outcome.out.find("(unreadable") == std::string::npos);
  };
  lists("hardware", "h200_sxm");
  lists("fabrics", "nvlink4_nvswitch");
  lists("models", "tiny");
  lists("kernels", "attention_prefill");
  lists("shardings", "cascade_4x2");
  lists("experiments", "tiny_cascade");
  lists("sweeps", "attn_nodes_1m");
  require_bad_input(work.tessera({"list", "hardwar"}), {"did you mean 'hardware'?"});
}

TEST_CASE("list models counts parameters, cache and state") {
  const Workplace work;
  std::filesystem::create_directories(work.folder() / "configs" / "models");
  work.write("configs/models/mine.yaml", "name: mine\nlayers: two\n");
  const Outcome outcome = work.tessera({"list", "models"});
  REQUIRE(outcome.exit_code == 0);
  for (const char* text : {"49,122,681,728   3,106,974,848", "8,064            43,417,600",
                           "20 KDA, 7 MLA (NoPE); 1 MLP, 26 MoE", "671,026,419,200",
                           "29 MoBA, 3 dense; 32 MLP", "mine.yaml:2: layers: expected an integer"}) {
    INFO(text << " in\n" << outcome.out);
    REQUIRE(outcome.out.find(text) != std::string::npos);
  }
}

TEST_CASE("a configs folder in the working directory comes first") {
  const Workplace work;
  std::filesystem::create_directories(work.folder() / "configs" / "experiments");
  work.write("configs/experiments/mine.yaml", "name: mine\ndescription: of this folder\n");
  const Outcome outcome = work.tessera({"list", "experiments"});
  REQUIRE(outcome.out.find("mine") != std::string::npos);
  REQUIRE(outcome.out.find("of this folder") != std::string::npos);
  REQUIRE(outcome.out.find("tiny_cascade") != std::string::npos);
}

TEST_CASE("help and version go to standard output; a missing or unknown command is bad input") {
  const Workplace work;
  const Outcome help = work.tessera({"--help"});
  REQUIRE(help.exit_code == 0);
  REQUIRE(help.err.empty());
  for (const char* word : {"run", "kernel", "list", "Examples", "Exit codes"}) {
    INFO(word);
    REQUIRE(help.out.find(word) != std::string::npos);
  }
  REQUIRE(work.tessera({"kernel", "--help"}).out.find("attention_decode batch=1 context heads") !=
          std::string::npos);
  REQUIRE(work.tessera({"--version"}).out.starts_with("tessera "));
  require_bad_input(work.tessera({}), {"subcommand"});
  require_bad_input(work.tessera({"launch"}), {"'launch'", "there is: run, kernel, list"});
  require_bad_input(work.tessera({"kernl"}), {"did you mean 'kernel'?"});
  require_bad_input(work.tessera({"run"}), {"EXPERIMENT"});
}
