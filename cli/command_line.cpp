#include "cli/command_line.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cli/command.hpp"
#include "cli/measure.hpp"
#include "cli/revision.hpp"
#include "configs/reader/document.hpp"
#include "sim/core/error.hpp"

namespace tessera::cli {

namespace {

constexpr const char* kFooter = R"(Examples:
  tessera run kimi_linear_sharded                      an experiment of configs/experiments
  tessera run my.yaml --set workload.prefill_tokens=16384 --json -
  tessera kernel gemm m=8192 n=8192 k=8192 --hardware h200_sxm
  tessera kernel attention_prefill seq=8192 heads=32 kv_heads=8 --hardware h200_sxm
  tessera list hardware

Configurations are looked for under ./configs, then $TESSERA_HOME/configs, then where Tessera was built.
Exit codes: 0 done; 1 the run failed; 2 usage or bad input; 3 a comparison was outside its tolerance.)";

/// "a; b" from "a\nb": complaints are one line.
std::string one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos;) text.replace(at, 1, "; ");
  return text;
}

int complain(const char* kind, const std::string& what, int code) {
  fmt::print(stderr, "{}{}\n", kind, what);
  return code;
}

/// A first word that is no command is said so, rather than that a command is missing.
void require_command(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  if (std::find(names.begin(), names.end(), argv[1]) != names.end()) return;
  const std::string near = config::nearest(argv[1], names);
  throw UsageError{fmt::format("no command is called '{}'; {}", argv[1],
                               near.empty() ? fmt::format("there is: {}", fmt::join(names, ", "))
                                            : fmt::format("did you mean '{}'?", near))};
}

}  // namespace

int run_command_line(int argc, char** argv, const MakeCrew& make_crew) {
  CLI::App app{
      "Tessera: what does this attention architecture cost on that machine, sharded this way,\n"
      "and what limits it? A cycle-level simulator of sharded attention on GPUs.",
      "tessera"};
  app.set_version_flag("--version", "tessera " TESSERA_VERSION);
  app.require_subcommand(1);
  app.footer(kFooter);
  add_run(app);
  add_kernel(app);
  add_list(app);
  add_validate(app);
  add_calibrate(app);
  add_replay(app);
  add_trace(app);
  set_up_measure({app, "measure", "Measure real kernels on a GPU"}, revision());
  add_sweep(app, argc, argv, make_crew);
  add_pareto(app);
  add_export(app);
  add_compare(app);
  add_merge(app);
  try {
    require_command(app, argc, argv);
    app.parse(argc, argv);
    std::fflush(stdout);
    return kDone;
  } catch (const CLI::Success& e) {  // --help, --version
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    return complain("tessera: ", one_line(e.what()) + " (see tessera --help)", kBadInput);
  } catch (const config::InputError& e) {
    return complain("", one_line(e.what()), kBadInput);
  } catch (const UsageError& e) {
    return complain("tessera: ", one_line(e.what()), kBadInput);
  } catch (const ToleranceError& e) {
    return complain("tessera: out of tolerance: ", one_line(e.what()), kOutOfTolerance);
  } catch (const sim::ConservationError& e) {
    return complain("tessera: the run failed, and it is a defect in Tessera: ", e.what(), kFailed);
  } catch (const std::exception& e) {
    return complain("tessera: the run failed: ", e.what(), kFailed);
  }
}

void require_fidelity(const std::string& fidelity) {
  if (fidelity == "cycle" || fidelity == "cost") return;
  throw UsageError{fmt::format("--fidelity {}: expected cycle or cost", fidelity)};
}

}  // namespace tessera::cli
