#pragma once
// Traces of operators, for `tessera replay` and `tessera trace`.

#include <string>

#include "cli/output.hpp"
#include "sim/core/hardware.hpp"

namespace tessera::cli {

/// Whether a file is a trace of operators: said by --format (chakra, kineto), or told by its name and
/// content.
bool is_operator_trace(const std::string& file, const std::string& format);

/// The trace run again: known operators at the cost model's price on `gpu`, collectives on `fabric` (null: as
/// recorded).
Json operator_replay(const std::string& file, const GpuSpec& gpu, const FabricSpec* fabric);

/// A result as lines of text: nested keys joined by points.
std::string lines_of(const Json& json, const std::string& prefix = "");

}  // namespace tessera::cli
