#include "sim/core/module.hpp"

#include <fmt/format.h>

#include <exception>
#include <stdexcept>
#include <utility>

#include "sim/core/error.hpp"

namespace tessera::sim {

namespace {

Time g_lookahead_limit = Time::never();
std::exception_ptr g_failure;  // thrown by a module; SystemC would turn it into a report of its own

sc_core::sc_time to_sc(Time t) { return sc_core::sc_time::from_value(static_cast<sc_dt::uint64>(t.fs)); }
Time sc_now() { return Time{static_cast<std::int64_t>(sc_core::sc_time_stamp().value())}; }

/// SystemC's clock must tick in femtoseconds before the first sc_time exists.
void use_femtoseconds() {
  static const bool done = [] {
    sc_core::sc_set_time_resolution(1, sc_core::SC_FS);
    return true;
  }();
  (void)done;
}

}  // namespace

void set_lookahead_limit(Time limit) { g_lookahead_limit = limit; }
Time lookahead_limit() { return g_lookahead_limit; }

Module::Module(sc_core::sc_module_name name) : sc_core::sc_module{name} {
  use_femtoseconds();
  SC_METHOD(activate);
  sensitive << wake_;
  dont_initialize();
}

Module::~Module() = default;

void Module::limit_lookahead(Time latency) {
  if (latency <= Time{}) throw std::logic_error{fmt::format("{}: a port needs a positive latency", name())};
  lookahead_ = min(lookahead_, latency);
}

void Module::end_of_elaboration() {
  lookahead_ = min(lookahead_, g_lookahead_limit);
  // A module that nothing leads to may run to the end at once; bounded so that window arithmetic
  // cannot overflow.
  lookahead_ = min(lookahead_, Time::milliseconds(1'000'000));
  elaborated_ = true;
  accept_inbox();
  if (const Time first = next_event(); first != Time::never()) wake_for(first);
}

void Module::wake_for(Time at) {
  if (!elaborated_) return;  // end_of_elaboration() will arm it
  const Time window{at.fs / lookahead_.fs * lookahead_.fs};
  if (window >= armed_) return;
  armed_ = window;
  const Time now = sc_now();
  wake_.notify(to_sc(window > now ? window - now : Time{}));
}

void Module::activate() {
  const Time now = sc_now();
  armed_ = Time::never();
  accept_inbox();
  const Time window{now.fs / lookahead_.fs * lookahead_.fs};
  try {
    run_window(window + lookahead_);
  } catch (...) {
    g_failure = std::current_exception();
    // It would say so on standard output, which may be a result's.
    sc_core::sc_report_handler::set_actions(sc_core::SC_INFO, sc_core::SC_DO_NOTHING);
    sc_core::sc_stop();
    return;
  }
  if (const Time next = next_event(); next != Time::never()) wake_for(next);
}

void report_early_send(Time now, Time at, Time latency) {
  throw ConservationError{
      fmt::format("an event sent at {} fs would arrive at {} fs, sooner than the {} fs the port takes",
                  now.fs, at.fs, latency.fs)};
}

std::uint64_t run_to_completion(const std::vector<Module*>& modules) {
  sc_core::sc_start();
  if (g_failure) std::rethrow_exception(std::exchange(g_failure, nullptr));
  std::vector<std::string> stuck;
  std::uint64_t events = 0;
  for (const Module* m : modules) {
    m->describe_stuck(stuck);
    events += m->events_handled();
  }
  if (!stuck.empty()) {
    std::string text = "the simulation cannot progress; waiting:";
    constexpr std::size_t kShown = 12;
    for (std::size_t i = 0; i < stuck.size() && i < kShown; ++i) text += "\n  " + stuck[i];
    if (stuck.size() > kShown) text += fmt::format("\n  and {} more", stuck.size() - kShown);
    throw DeadlockError{text};
  }
  return events;
}

}  // namespace tessera::sim
