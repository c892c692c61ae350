#pragma once
// tessera measure, without the rest of the command line: also a program of its own, tessera-measure, that
// needs no SystemC and can be carried to a machine with a GPU.

#include <string>

namespace CLI {
class App;
}

namespace tessera::cli {

/// Its options and its callback, on a subcommand or on a whole program. `revision`: of the source, or "".
void set_up_measure(CLI::App& command, const std::string& revision);

}  // namespace tessera::cli
