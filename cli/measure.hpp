#pragma once
// tessera measure, without the rest of the command line: also a program of its own, tessera-measure, that
// needs no SystemC and can be carried to a machine with a GPU.

#include <string>

#include "cli/options.hpp"

namespace tessera::cli {

/// Its options and its callback, on a subcommand or a whole program. `revision`: of the source, or "".
void set_up_measure(Command command, const std::string& revision);

}  // namespace tessera::cli
