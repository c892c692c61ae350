#pragma once
// The options of a command, declared without CLI11's headers, which take the compiler ten seconds in every
// file that sees them.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <string>
#include <variant>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace tessera::cli {

/// Where an option's value goes once the command line is parsed; what is there before is its default.
using Place = std::variant<int*, unsigned*, std::int64_t*, std::uint64_t*, double*, std::string*,
                           std::vector<std::string>*, std::vector<std::filesystem::path>*>;

/// One option, to say more of it: every function returns itself.
class Option {
 public:
  Option& required();
  Option& default_shown();  ///< in --help
  Option& within(int least, int most);
  Option& within(unsigned least, unsigned most);
  Option& within(double least, double most);
  Option& positive();
  Option& not_negative();
  Option& one_of(std::initializer_list<const char*> names);
  Option& separated_by(char delimiter);
  Option& one_at_a_time();  ///< one value each time it is given: the next word is something else

 private:
  friend class Command;
  explicit Option(CLI::Option* option) : option_{option} {}
  CLI::Option* option_;
};

/// A command, or one of its subcommands. The places given must outlive the parsing: what `obeyed_by` holds.
class Command {
 public:
  /// A new subcommand `name` of `parent`.
  Command(CLI::App& parent, const char* name, const char* what);
  /// The whole program.
  explicit Command(CLI::App& program) : app_{&program} {}

  /// `names`: "--json", "-j,--jobs", or a word of its own for what stands without a name.
  template <class T>
  Option option(const char* names, T& place, const char* what) {
    return add(names, Place{&place}, what);
  }
  void flag(const char* name, bool& place, const char* what);
  void footer(const std::string& text);
  void obeyed_by(std::function<void()> work);
  Command subcommand(const char* name, const char* what) { return {*app_, name, what}; }
  void require_subcommand();

 private:
  Option add(const char* names, Place place, const char* what);
  CLI::App* app_;
};

}  // namespace tessera::cli
