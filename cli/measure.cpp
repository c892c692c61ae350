// tessera measure: real kernels on a real GPU.

#include "cli/measure.hpp"

#include <fmt/format.h>

#include <memory>
#include <stdexcept>

#include "cli/command.hpp"
#include "cli/config_files.hpp"
#include "cli/measured_choices.hpp"
#include "validate/measure/run.hpp"

namespace tessera::cli {

namespace {

// Of an H200 on random data, somewhat less than measured (docs/validation.md): an estimate of how long a
// suite takes.
constexpr double kFlopsPerS = 4e14, kBytesPerS = 3e12;

struct Options {
  std::string suite, out, choices, device = "0", only;
  double case_limit_s = 120;
  std::uint64_t seed = 1;
  bool check = false, estimate = false;
};

constexpr const char* kFooter =
    R"(Every kernel is checked against float64, on odd shapes and on what is timed, before it is timed. A row is appended
for every case, also for one that failed or was skipped, with why; cases whose rows are there are not measured again, so
an interrupted run goes on where it stopped. `tessera validate` and `tessera calibrate` read the file.

Examples:
  tessera measure quick --out h200.jsonl
  tessera measure my_suite.yaml --out h200.jsonl --only attention
  tessera measure full --estimate
  tessera measure quick --check                            only the checks, no times
  tessera measure moba --choices chosen/                   blocks that MoBA's kernels select, as traces
  tessera measure quick --out try.jsonl --device emulated   without a GPU: times mean nothing)";

int device_index(const std::string& text) {
  if (text.empty() || text.size() > 3 || text.find_first_not_of("0123456789") != std::string::npos)
    throw UsageError{fmt::format("--device {}: expected the number of a GPU, from 0, or emulated", text)};
  return std::stoi(text);
}

void run_measure(const Options& options, const std::string& revision) {
  measure::Suite suite = measure::read_suite(resolve_config("suites", options.suite, "measure"));
  const bool record = !options.choices.empty(), check = options.check || record;
  if (options.out.empty() && !check && !options.estimate)
    throw UsageError{"measure: --out is required (or --check, --choices or --estimate)"};
  if (record) {
    if (!options.out.empty())
      throw UsageError{"measure: --out: with --choices nothing is timed, so there are no rows"};
    std::erase_if(suite.cases, [](const measure::Case& c) { return !measure::chooses(c.request); });
    if (suite.cases.empty())
      throw UsageError{fmt::format(
          "measure: --choices: no case of {} chooses blocks (moba_prefill, block_gate) or experts "
          "(moe_router)",
          suite.name)};
  }
  const bool emulated = options.device == "emulated";
  const int index = emulated ? 0 : device_index(options.device);
  fmt::print("{}: {} cases, about {:.0f} s on an H200\n", suite.name, suite.cases.size(),
             measure::estimated_s(suite, {}, kFlopsPerS, kBytesPerS));
  if (options.estimate) return;
  measure::RunOptions run{.out = options.out,
                          .revision = revision,
                          .only = options.only,
                          .case_limit_s = options.case_limit_s,
                          .seed = options.seed,
                          .check_only = check};
  if (record)
    run.record = [&](const measure::Case& which, const measure::Chosen& chosen) {
      return write_choices(options.choices, which.request.text(), chosen);
    };
  run.open_device = [=] {
    return emulated ? measure::make_emulated_device() : measure::make_cuda_device(index);
  };
  const measure::RunSummary summary = measure::run_suite(suite, run);
  fmt::print("{} {}, {} skipped, {} failed, {} were there\n", summary.measured,
             record          ? "recorded"
             : options.check ? "passed"
                             : "measured",
             summary.skipped, summary.failed, summary.already_there);
  if (summary.failed > 0)
    throw std::runtime_error{fmt::format("{} cases failed: their rows say why", summary.failed)};
}

}  // namespace

void set_up_measure(Command command, const std::string& revision) {
  const auto options = std::make_shared<Options>();
  command.option("SUITE", options->suite, "A suite of configs/suites, or a file").required();
  command.option("--out", options->out, "The file of rows (JSON lines) to append to");
  command.option("--device", options->device, "The number of a GPU, or emulated").default_shown();
  command.option("--only", options->only, "Only cases whose text holds this: \"attention\", \"seq=8192\"");
  command.option("--case-limit", options->case_limit_s, "Seconds after which a case is given up")
      .within(1.0, 86400.0)
      .default_shown();
  command.option("--seed", options->seed, "Seed of the random inputs").default_shown();
  command.option("--choices", options->choices,
                 "Write the blocks and experts that the kernels choose, once they were checked, into this "
                 "folder, as traces (docs/traces/selections.md); nothing is timed, other cases are left out");
  command.flag("--check", options->check, "Only check the kernels; nothing is timed, no file is written");
  command.flag("--estimate", options->estimate, "Only say how long the suite should take");
  command.footer(kFooter);
  command.obeyed_by([options, revision] { run_measure(*options, revision); });
}

}  // namespace tessera::cli
