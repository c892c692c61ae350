#pragma once
// Where configurations are: by path, or by name under a configs/ folder.

#include <filesystem>
#include <string>
#include <vector>

#include "configs/reader/document.hpp"

namespace tessera::cli {

/// The configs/ folders, first match wins: ./configs, $TESSERA_HOME/configs if set, else the source tree's.
std::vector<std::filesystem::path> config_roots();

/// The names in configs/`kind` of every root, sorted, each once. A name is a file name without its extension.
std::vector<std::string> config_names(const std::string& kind);

/// The file that `name` stands for in configs/`kind`; empty if there is none.
std::filesystem::path find_config(const std::string& kind, const std::string& name);

/// The file a value names: a path (has a '/' or an extension of ours; relative to the working directory, else
/// to the folder of the document it stands in), or a name in configs/`kind`. InputError at `value` with the
/// nearest name if it is neither.
std::filesystem::path resolve_config(const std::string& kind, const config::Value& value);

/// The same for a name on the command line; `what` begins the message of the UsageError.
std::filesystem::path resolve_config(const std::string& kind, const std::string& name,
                                     const std::string& what);

}  // namespace tessera::cli
