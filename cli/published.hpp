#pragma once
// Figures published for real GPUs, and the same microbenchmarks on the simulated ones.

#include <filesystem>
#include <string>
#include <vector>

namespace tessera::cli {

/// Whether a file holds figures to compare with: a `figures` list.
bool is_published(const std::filesystem::path& file);

/// Runs what `files` name (none: validate/published/*.yaml, configs/experiments/published/*.yaml, and the
/// rest of configs/suites/microbench.yaml without a figure), on `hardware` only if it is not empty; prints a
/// table for each file, as JSON to `json` (a file, or "-") if it is not empty. Throws ToleranceError if a
/// figure is missed by more than its tolerance.
void run_published(const std::vector<std::filesystem::path>& files, const std::string& hardware,
                   int processes, const std::string& json);

}  // namespace tessera::cli
