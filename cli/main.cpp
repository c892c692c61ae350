// Entry point: SystemC owns sc_main(), we own main() so that its banner stays out of the output.

#include <cstdlib>
#include <systemc>

#include "cli/command_line.hpp"

int sc_main(int argc, char* argv[]) { return tessera::cli::run_command_line(argc, argv, nullptr); }

int main(int argc, char* argv[]) {
  setenv("SYSTEMC_DISABLE_COPYRIGHT_MESSAGE", "1", 1);
  return sc_core::sc_elab_and_sim(argc, argv);
}
