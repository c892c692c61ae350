#pragma once
// The subcommands of `tessera`, one file each.
//
// A subcommand registers its options on `app` and, in its callback, does its work and sets `exit_code`.
// Exit codes: 0 done; 1 the run failed; 2 usage or bad input; 3 a comparison was outside its tolerance.
// Failures travel as exceptions: config::InputError and UsageError end with 2,
// ToleranceError with 3, everything else with 1.

#include <stdexcept>
#include <string>

namespace CLI {
class App;
}

namespace tessera::cli {

inline constexpr int kDone = 0, kFailed = 1, kBadInput = 2, kOutOfTolerance = 3;

/// A command line that cannot be obeyed. what() is one line.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A comparison was outside the tolerance it was given. what() is one line.
class ToleranceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

void add_replay(CLI::App& app);
void add_run(CLI::App& app);
void add_trace(CLI::App& app);
void add_kernel(CLI::App& app);
void add_list(CLI::App& app);
void add_validate(CLI::App& app);
void add_calibrate(CLI::App& app);
void add_pareto(CLI::App& app);
void add_export(CLI::App& app);
void add_compare(CLI::App& app);
void add_merge(CLI::App& app);

/// Throws UsageError unless `fidelity` is one this build has.
void require_fidelity(const std::string& fidelity);

}  // namespace tessera::cli
