// tessera trace: looks at traces, checks them, and turns one format into another.

#include <CLI/CLI.hpp>

#include "cli/command.hpp"

namespace tessera::cli {

void add_trace(CLI::App& app) { app.add_subcommand("trace", "Look at a trace, check it, convert it"); }

}  // namespace tessera::cli
