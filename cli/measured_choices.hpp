#pragma once
// What measured kernels chose, as recorded traces (docs/traces/selections.md): for `tessera measure
// --choices`.

#include <filesystem>
#include <string>

#include "validate/measure/choices.hpp"

namespace tessera::cli {

/// Writes them as JSON lines, of layer 0, to a file of `folder` (made if it is not there) that is named by
/// the call's words; whole, or not at all. Returns "N records in FILE". std::runtime_error naming the file.
std::string write_choices(const std::filesystem::path& folder, const std::string& words,
                          const measure::Chosen& chosen);

}  // namespace tessera::cli
