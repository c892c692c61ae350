#pragma once
// The whole command line, for an entry point that says who works on sweeps.

#include <functional>
#include <memory>
#include <vector>

#include "cli/sweep/crew.hpp"
#include "cli/sweep/sweep.hpp"

namespace CLI {
class App;
}

namespace tessera::cli {

/// Who evaluates a sweep's points, at most so many; null where this process was one of them and has done its
/// work.
using MakeCrew = std::function<std::unique_ptr<Crew>(const Sweep& sweep, const std::vector<Point>& points,
                                                     std::size_t jobs)>;

/// `argv` is for --mpi, which goes on as another program.
void add_sweep(CLI::App& app, int argc, char** argv, const MakeCrew& make_crew);

/// Obeys a command line; returns the exit code. `make_crew` of the main program is null: forks of this
/// process.
int run_command_line(int argc, char** argv, const MakeCrew& make_crew);

}  // namespace tessera::cli
