#pragma once
// A SystemC module that runs ahead of its neighbours by no more than physics allows.
//
// Modules exchange events through outlets. Every outlet has a minimum latency; a module's lookahead is
// the smallest latency among the outlets that lead to it. Activated at simulated time T, a module may
// handle every event before the end of its window, because nothing that is still to be sent can arrive
// before then (conservative synchronisation). Windows are aligned to multiples of the lookahead, and
// idle modules are not activated at all.

#include <cstdint>
#include <string>
#include <string_view>
#include <systemc>
#include <utility>
#include <vector>

#include "sim/core/time.hpp"
#include "sim/core/wheel.hpp"

namespace tessera::sim {

class Statistics;

/// Limits every module's lookahead, for tests of independence from it. Must be set before elaboration.
void set_lookahead_limit(Time limit);
Time lookahead_limit();

class Module : public sc_core::sc_module {
 public:
  SC_HAS_PROCESS(Module);
  ~Module() override;

  /// Names whatever still waits (a barrier, a queue, a credit) when no event is left to wake it.
  virtual void describe_stuck(std::vector<std::string>& out) const { (void)out; }
  /// Adds this module's counters. Called after the simulation.
  virtual void report(Statistics& statistics) const { (void)statistics; }
  std::uint64_t events_handled() const { return events_handled_; }

 protected:
  explicit Module(sc_core::sc_module_name name);

  /// Makes sure the module is activated in time to handle an event at `at`.
  void wake_for(Time at);
  void limit_lookahead(Time latency);
  void end_of_elaboration() override;

  virtual void accept_inbox() = 0;
  virtual void run_window(Time end) = 0;
  virtual Time next_event() const = 0;

  std::uint64_t events_handled_ = 0;

 private:
  void activate();

  sc_core::sc_event wake_;
  Time lookahead_ = Time::never();
  Time armed_ = Time::never();  // window start of the pending activation
  bool elaborated_ = false;
};

/// A module that takes events of one small struct type from others.
template <class Event>
class Receiver : public Module {
 public:
  /// For Outlet only: hands over an event that arrives at `at` on `port`.
  void receive(std::uint32_t port, Time at, const Event& event) {
    inbox_.push_back(Arrival{at, port, event});
    wake_for(at);
  }
  /// For Outlet only: declares an incoming connection of `lanes` ports and returns the first one's number.
  std::uint32_t add_inlet(Time latency, std::uint32_t lanes) {
    limit_lookahead(latency);
    return std::exchange(inlets_, inlets_ + lanes);
  }

 protected:
  explicit Receiver(sc_core::sc_module_name name) : Module{name} {}

  struct Arrival {
    Time at;
    std::uint32_t port;
    Event event;
  };
  /// What has arrived since the last call, in the order of sending; valid until the next call.
  const std::vector<Arrival>& take_inbox() {
    taken_.clear();
    std::swap(taken_, inbox_);
    return taken_;
  }

 private:
  std::vector<Arrival> inbox_, taken_;
  std::uint32_t inlets_ = 0;
};

/// A receiver that handles its events, and those it schedules for itself, one by one in the order of time.
template <class Event>
class EventModule : public Receiver<Event> {
 protected:
  explicit EventModule(sc_core::sc_module_name name) : Receiver<Event>{name} {}

  virtual void handle(Time now, const Event& event) = 0;
  /// Schedules a local event. Outside of handle() (elaboration), pass the absolute start time.
  void schedule(Time at, const Event& event) {
    wheel_.schedule(at, event);
    if (!running_) this->wake_for(at);
  }

 private:
  void accept_inbox() final {
    for (const auto& a : this->take_inbox()) wheel_.deliver(a.at, a.port, a.event);
  }
  void run_window(Time end) final {
    running_ = true;
    Time at;
    Event event;
    while (wheel_.pop(end, at, event)) {
      ++this->events_handled_;
      handle(at, event);
    }
    running_ = false;
  }
  Time next_event() const final { return wheel_.next_time(); }

  TimeWheel<Event> wheel_;
  bool running_ = false;
};

/// The sending end of a connection to another module.
template <class Event>
class Outlet {
 public:
  /// `latency` is the least time between sending and arrival; it must be positive. Events of one lane keep
  /// their order at equal times; those of several lanes arrive in the order of the lanes.
  void connect(Receiver<Event>& to, Time latency, std::uint32_t lanes = 1) {
    to_ = &to;
    latency_ = latency;
    port_ = to.add_inlet(latency, lanes);
  }
  bool connected() const { return to_ != nullptr; }
  Time latency() const { return latency_; }

  /// Sends at `now` with the connection's own latency.
  void send(Time now, const Event& event) { to_->receive(port_, now + latency_, event); }
  /// Sends so that the event arrives at `at`, which is at least now + latency().
  void send_at(Time now, Time at, const Event& event, std::uint32_t lane = 0) {
    if (at < now + latency_) throw_too_early(now, at);
    to_->receive(port_ + lane, at, event);
  }

 private:
  [[noreturn]] void throw_too_early(Time now, Time at) const;

  Receiver<Event>* to_ = nullptr;
  Time latency_;
  std::uint32_t port_ = 0;
};

[[noreturn]] void report_early_send(Time now, Time at, Time latency);

template <class Event>
void Outlet<Event>::throw_too_early(Time now, Time at) const {
  report_early_send(now, at, latency_);
}

/// Runs the elaborated SystemC design until no event is left and returns the number of events handled.
/// Throws DeadlockError, naming every stuck party, if something still waits then.
std::uint64_t run_to_completion(const std::vector<Module*>& modules);

}  // namespace tessera::sim
