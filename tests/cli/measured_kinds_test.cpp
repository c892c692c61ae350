// What is measured and what is simulated have the same words.

#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>

#include "cli/kernel_arguments.hpp"
#include "validate/measure/kinds.hpp"
#include "validate/measure/suite.hpp"

namespace tessera::cli {

namespace {

/// Keys of measuring alone: positions of checks, and which library computes.
bool measured_only(const std::string& key) {
  return key == "positions" || key == "products" || key == "index";
}

/// Whether a library's kernels are measured, which no tile program stands for.
bool of_library(const measure::Request& request) {
  for (const auto& [key, value] : request.given)
    if (measured_only(key) || (key == "algorithm" && value == "cudnn")) return true;
  return false;
}

}  // namespace

TEST_CASE("every measured kind has the simulated kind's keys and defaults") {
  std::map<std::string, std::set<std::string>> words;
  for (const KernelKind& kind : kernel_kinds()) {
    std::istringstream keys{kind.keys};
    for (std::string word; keys >> word;) words[kind.name].insert(word);
  }
  for (const measure::MeasuredKind& kind : measure::measured_kinds()) {
    if (std::string{kind.name} == "microbench") continue;
    for (const measure::Key& key : kind.keys) {
      if (measured_only(key.name)) continue;
      const std::string word =
          std::string{key.name} + (key.value == nullptr ? "" : std::string{"="} + key.value);
      INFO(kind.name << " " << word);
      CHECK(words[kind.name].contains(word));
    }
  }
}

TEST_CASE("every case of the suites can be simulated") {
  for (const auto& file : std::filesystem::directory_iterator{TESSERA_SOURCE_DIR "/configs/suites"}) {
    for (const measure::Case& c : measure::read_suite(file.path()).cases) {
      if (c.request.kind == "microbench") continue;
      if (of_library(c.request)) {
        // `validate` and `calibrate` leave such rows out, and say why.
        INFO(c.request.text());
        CHECK_FALSE(measure::build(c.request, {}).unlike.empty());
        continue;
      }
      std::vector<std::string> words;
      for (const auto& [key, value] : c.request.given) words.push_back(key + "=" + value);
      INFO(c.request.text());
      CHECK_NOTHROW(parse_kernel(c.request.kind, words));
    }
  }
}

}  // namespace tessera::cli
