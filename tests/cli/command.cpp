#include "tests/cli/command.hpp"

#include <fmt/format.h>
#include <sys/wait.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace tessera::cli_test {

namespace fs = std::filesystem;

namespace {

std::string slurp(const fs::path& file) {
  std::ifstream in{file, std::ios::binary};
  return {std::istreambuf_iterator<char>{in}, {}};
}

std::string shell_quoted(const std::string& word) {
  std::string quoted;
  for (const char c : word) {
    if (c == '\'')
      quoted.append("'\\''");
    else
      quoted += c;
  }
  return fmt::format("'{}'", quoted);
}

}  // namespace

Workplace::Workplace() {
  std::string name = (fs::temp_directory_path() / "tessera_cli_XXXXXX").string();
  REQUIRE(mkdtemp(name.data()) != nullptr);
  folder_ = name;
}

Workplace::~Workplace() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
  fs::remove(folder_.string() + ".out", ignored);
  fs::remove(folder_.string() + ".err", ignored);
}

Outcome Workplace::tessera(const std::vector<std::string>& arguments) const {
  std::string command =
      fmt::format("cd {} && {}", shell_quoted(folder_.string()), shell_quoted(TESSERA_BINARY));
  for (const std::string& argument : arguments) command += fmt::format(" {}", shell_quoted(argument));
  // Beside the folder, so that the folder holds only what the command itself wrote.
  command += fmt::format(" >{0}.out 2>{0}.err </dev/null", folder_.string());
  const int status = std::system(command.c_str());
  REQUIRE(status != -1);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, slurp(folder_.string() + ".out"),
          slurp(folder_.string() + ".err")};
}

void Workplace::write(const std::string& file, const std::string& text) const {
  std::ofstream{folder_ / file, std::ios::binary} << text;
}

std::string Workplace::read(const std::string& file) const { return slurp(folder_ / file); }

std::vector<std::string> Workplace::files() const {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator{folder_})
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

nlohmann::json parse(const std::string& text) {
  nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  INFO(text.substr(0, 500));
  REQUIRE_FALSE(json.is_discarded());
  return json;
}

void require_bad_input(const Outcome& outcome, const std::vector<std::string>& parts) {
  INFO("stderr: " << outcome.err);
  REQUIRE(outcome.exit_code == 2);
  REQUIRE(outcome.out.empty());
  REQUIRE(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
  for (const std::string& part : parts) {
    INFO("expected: " << part);
    REQUIRE(outcome.err.find(part) != std::string::npos);
  }
}

}  // namespace tessera::cli_test
