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

TEST_CASE("every measured kind has the simulated kind's keys and defaults") {
  std::map<std::string, std::set<std::string>> words;
  for (const KernelKind& kind : kernel_kinds()) {
    std::istringstream keys{kind.keys};
    for (std::string word; keys >> word;) words[kind.name].insert(word);
  }
  for (const measure::MeasuredKind& kind : measure::measured_kinds()) {
    if (std::string{kind.name} == "microbench") continue;
    for (const measure::Key& key : kind.keys) {
      if (std::string{key.name} == "positions") continue;  // of checks only
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
      std::vector<std::string> words;
      for (const auto& [key, value] : c.request.given) words.push_back(key + "=" + value);
      INFO(c.request.text());
      CHECK_NOTHROW(parse_kernel(c.request.kind, words));
    }
  }
}

}  // namespace tessera::cli
