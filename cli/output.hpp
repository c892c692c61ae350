#pragma once
// Results to files: whole or not at all.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace tessera::cli {

using Json = nlohmann::ordered_json;

/// Writes `text` under a temporary name beside `file`, then renames it: a reader never sees half a file.
/// Throws std::runtime_error naming `file`.
void write_whole(const std::filesystem::path& file, std::string_view text);

/// `json` to `destination`: a file, or standard output for "-".
void write_json(const std::string& destination, const Json& json);

/// Throws UsageError now if `file` could not be written later: its folder is missing, it is a folder, or it
/// may not be written. "-" and "" pass.
void require_writable(const std::string& option, const std::string& file);

/// The highest memory use of this process or of any of its workers so far.
double peak_memory_mib();

}  // namespace tessera::cli
