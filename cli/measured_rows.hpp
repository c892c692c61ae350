#pragma once
// The rows of measurement files that a command works on.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "validate/measurement.hpp"

namespace tessera::cli {

struct RowChoice {
  std::vector<std::string> kinds;  ///< only these; empty: all
  double max_ms = 0;               ///< leave out rows that took longer; 0: none
  std::size_t sample = 0;          ///< at most so many of each kind, drawn by the seed; 0: all
  std::uint64_t seed = 0;
};

/// Reads files and folders of them; rows of JSON lines are in the words of `tessera kernel`. InputError for
/// bad rows, UsageError if a kind is in no file or no row is left.
validate::Measurements read_rows(const std::vector<std::filesystem::path>& paths, const RowChoice& choice);

}  // namespace tessera::cli
