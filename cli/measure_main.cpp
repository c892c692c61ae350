// tessera-measure: `tessera measure` as a program of its own, without SystemC.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/command.hpp"
#include "cli/measure.hpp"
#include "configs/reader/document.hpp"
#include "tessera_revision.hpp"

int main(int argc, char** argv) {
  using namespace tessera;
  CLI::App app{"Measures real kernels on a real GPU: `tessera measure`, to be carried", "tessera-measure"};
  cli::set_up_measure(cli::Command{app}, TESSERA_REVISION);
  try {
    app.parse(argc, argv);
    return cli::kDone;
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    fmt::print(stderr, "tessera-measure: {} (see --help)\n", e.what());
    return cli::kBadInput;
  } catch (const config::InputError& e) {
    fmt::print(stderr, "{}\n", e.what());
    return cli::kBadInput;
  } catch (const cli::UsageError& e) {
    fmt::print(stderr, "tessera-measure: {}\n", e.what());
    return cli::kBadInput;
  } catch (const std::exception& e) {
    fmt::print(stderr, "tessera-measure: {}\n", e.what());
    return cli::kFailed;
  }
}
