#pragma once
// Runs the real `tessera` in an empty folder of its own.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tessera::cli_test {

struct Outcome {
  int exit_code = -1;
  std::string out, err;
};

/// A folder that vanishes with the object; commands run inside it.
class Workplace {
 public:
  Workplace();
  ~Workplace();
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;

  Outcome tessera(const std::vector<std::string>& arguments) const;
  void write(const std::string& file, const std::string& text) const;
  std::string read(const std::string& file) const;
  std::vector<std::string> files() const;
  const std::filesystem::path& folder() const { return folder_; }

 private:
  std::filesystem::path folder_;
};

/// The output as JSON; fails the test if it is none.
nlohmann::json parse(const std::string& text);

/// Exit code 2, nothing on standard output, one line on standard error that contains every one of `parts`.
void require_bad_input(const Outcome& outcome, const std::vector<std::string>& parts);

}  // namespace tessera::cli_test
