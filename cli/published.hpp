#pragma once
// Figures published for real GPUs, and the same microbenchmarks on the simulated ones.

#include <filesystem>
#include <string>
#include <vector>

namespace tessera::cli {

/// Runs what of configs/suites/microbench.yaml `files` name (none: validate/published/*.yaml, and the rest of
/// the suite without a figure), on `hardware` only if it is not empty; prints a table, as JSON to `json` (a
/// file, or "-") if it is not empty. Throws ToleranceError if a figure is missed by more than its tolerance.
void run_published(const std::vector<std::filesystem::path>& files, const std::string& hardware,
                   int processes, const std::string& json);

}  // namespace tessera::cli
