#include "sim/core/module.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "sim/core/error.hpp"

namespace tessera::sim {

namespace {

Time g_lookahead_limit = Time::never();
std::exception_ptr g_failure;  // thrown by a module; SystemC would turn it into a report of its own
bool g_threaded = false;

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

/// Gathers the modules that SystemC activates at one time and runs their windows on a pool of threads.
class Windows : public sc_core::sc_module {
 public:
  SC_HAS_PROCESS(Windows);
  explicit Windows(unsigned threads)
      : sc_core::sc_module{sc_core::sc_module_name{"windows"}}, pool_{threads} {
    SC_METHOD(run);
    sensitive << ready_;
    dont_initialize();
  }

  void enroll(Module& module) { modules_.push_back(&module); }
  void remove(Module& module) { std::erase(modules_, &module); }
  /// Called by modules as they are activated; run() follows in the next delta cycle.
  void add(Module& module) {
    batch_.push_back(&module);
    ready_.notify(sc_core::SC_ZERO_TIME);
  }
  /// Hands over what the modules have sent each other.
  void deliver() {
    for (Module* m : modules_) {
      if (const Time earliest = m->collect(); earliest != Time::never()) m->wake_for(earliest);
    }
  }

 private:
  void run() {
    const Time now = sc_now();
    const auto window = [&](Module& m) {
      const auto start = std::chrono::steady_clock::now();
      m.execute(now);
      const std::chrono::duration<double, std::micro> us = std::chrono::steady_clock::now() - start;
      m.window_us_ += 0.1 * (us.count() - m.window_us_);
    };
    // The longest first; not worth a thread's while if all together are short.
    std::sort(batch_.begin(), batch_.end(),
              [](const Module* a, const Module* b) { return a->window_us_ > b->window_us_; });
    double rest_us = 0;
    for (std::size_t i = 1; i < batch_.size(); ++i) rest_us += batch_[i]->window_us_;
    constexpr double kHandOverUs = 1;
    if (rest_us < kHandOverUs) {
      for (Module* m : batch_) window(*m);
    } else {
      auto each = [&](std::uint32_t i) { window(*batch_[i]); };
      pool_.run(
          static_cast<std::uint32_t>(batch_.size()),
          [](void* context, std::uint32_t i) { (*static_cast<decltype(each)*>(context))(i); }, &each);
    }
    deliver();
    for (Module* m : modules_) {  // the same order whatever ran first
      if (std::find(batch_.begin(), batch_.end(), m) != batch_.end()) m->finish();
    }
    batch_.clear();
  }

  sc_core::sc_event ready_;
  std::vector<Module*> modules_, batch_;
  WindowPool pool_;
};

namespace {

std::unique_ptr<Windows> g_windows;

}  // namespace

void set_lookahead_limit(Time limit) { g_lookahead_limit = limit; }
Time lookahead_limit() { return g_lookahead_limit; }

Threads::Threads(unsigned threads) {
  use_femtoseconds();
  if (threads < 2) return;
  g_windows = std::make_unique<Windows>(threads);
  g_threaded = true;
}
Threads::~Threads() {
  g_threaded = false;
  g_windows.reset();
}
bool threaded() { return g_threaded; }

Module::Module(sc_core::sc_module_name name) : sc_core::sc_module{name} {
  use_femtoseconds();
  SC_METHOD(activate);
  sensitive << wake_;
  dont_initialize();
  if (g_windows) g_windows->enroll(*this);
}

Module::~Module() {
  if (g_windows) g_windows->remove(*this);
}

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
  collect();  // what was sent during elaboration
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
  armed_ = Time::never();
  if (g_windows) {
    g_windows->add(*this);
    return;
  }
  execute(sc_now());
  finish();
}

void Module::execute(Time now) {
  try {
    accept_inbox();
    run_window(Time{now.fs / lookahead_.fs * lookahead_.fs} + lookahead_);
  } catch (...) {
    failure_ = std::current_exception();
  }
}

void Module::finish() {
  if (failure_) {
    if (!g_failure) g_failure = std::exchange(failure_, nullptr);
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
