#pragma once
// Recorded traces as values of keys: "trace:FILE" of a kernel's key, {trace: FILE} in a workload.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "models/operators/expert_load.hpp"
#include "models/operators/selection.hpp"

namespace tessera::cli {

/// The file of "trace:FILE"; none for anything else.
std::optional<std::filesystem::path> trace_file(const std::string& value);

/// The trace's selection, of blocks of `block` tokens: of the layer, or of all. UsageError for what cannot be
/// read, or is of other blocks.
models::Selection recorded_selection(const std::filesystem::path& file, std::int64_t block,
                                     std::optional<int> layer = {});
/// Loads as a trace of `topk` of `experts` experts has them. UsageError as above.
models::LoadDistribution recorded_load(const std::filesystem::path& file, std::int64_t experts,
                                       std::int64_t topk);

}  // namespace tessera::cli
