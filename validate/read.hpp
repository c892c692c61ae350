#pragma once
// Measurement files from paths: the layout is told from the content.

#include <filesystem>
#include <string>
#include <vector>

#include "validate/formats.hpp"

namespace tessera::validate {

/// The rows of every file: paths in order, and of a directory its .csv and .jsonl files, by name, with those
/// of its folders. InputError names file, line and column of whatever is wrong.
Measurements read_measurements(const std::vector<std::filesystem::path>& paths, const ParseKernel& parse);

/// One file's text; `file` is for messages.
void read_text(std::string_view text, const std::filesystem::path& file, const ParseKernel& parse,
               Measurements& into);

}  // namespace tessera::validate
