#include "cli/options.hpp"

#include <CLI/CLI.hpp>
#include <utility>

namespace tessera::cli {

namespace {

/// CLI11's own bounds on one side complain with the greatest double, digit by digit.
CLI::Validator from_zero(bool zero_too, const char* expected, const char* kind) {
  return {[=](std::string& text) -> std::string {
            double value = 0;
            if (CLI::detail::lexical_cast(text, value) && (value > 0 || (zero_too && value == 0))) return {};
            return "expected " + std::string{expected} + ", not " + text;
          },
          kind};
}

}  // namespace

Option& Option::required() {
  option_->required();
  return *this;
}

Option& Option::default_shown() {
  option_->capture_default_str();
  return *this;
}

Option& Option::within(int least, int most) {
  option_->check(CLI::Range(least, most));
  return *this;
}

Option& Option::within(unsigned least, unsigned most) {
  option_->check(CLI::Range(least, most));
  return *this;
}

Option& Option::within(double least, double most) {
  option_->check(CLI::Range(least, most));
  return *this;
}

Option& Option::positive() {
  option_->check(from_zero(false, "a number above 0", "POSITIVE"));
  return *this;
}

Option& Option::not_negative() {
  option_->check(from_zero(true, "a number that is not negative", "NONNEGATIVE"));
  return *this;
}

Option& Option::one_of(std::initializer_list<const char*> names) {
  option_->check(CLI::IsMember(std::vector<std::string>(names.begin(), names.end())));
  return *this;
}

Option& Option::separated_by(char delimiter) {
  option_->delimiter(delimiter);
  return *this;
}

Option& Option::one_at_a_time() {
  option_->allow_extra_args(false);
  return *this;
}

Command::Command(CLI::App& parent, const char* name, const char* what)
    : app_{parent.add_subcommand(name, what)} {}

Option Command::add(const char* names, Place place, const char* what) {
  return Option{std::visit([&](auto* value) { return app_->add_option(names, *value, what); }, place)};
}

void Command::flag(const char* name, bool& place, const char* what) { app_->add_flag(name, place, what); }

void Command::footer(const std::string& text) { app_->footer(text); }

void Command::obeyed_by(std::function<void()> work) { app_->callback(std::move(work)); }

void Command::require_subcommand() { app_->require_subcommand(1); }

}  // namespace tessera::cli
