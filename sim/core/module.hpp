#pragma once
// A SystemC module that runs ahead of its neighbours by no more than physics allows.
//
// Modules exchange events through outlets. Every outlet has a minimum latency; a module's lookahead is
// the smallest latency among the outlets that lead to it. Activated at simulated time T, a module may
// handle every event before the end of its window, because nothing that is still to be sent can arrive
// before then (conservative synchronisation). Windows are aligned to multiples of the lookahead, and
// idle modules are not activated at all.

#include <array>
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <systemc>
#include <utility>
#include <vector>

#include "sim/core/time.hpp"
#include "sim/core/wheel.hpp"
#include "sim/core/window_pool.hpp"

namespace tessera::sim {

class Statistics;

/// Limits every module's lookahead. Results do not depend on it. Must be set before elaboration.
void set_lookahead_limit(Time limit);
Time lookahead_limit();
/// While one lives, `threads` threads run the windows of modules that are activated together, and modules may
/// share no state that one of them changes. Results do not depend on the number. Must live from before the
/// modules are made until after the last of them is gone.
class Threads {
 public:
  explicit Threads(unsigned threads);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
};
/// Whether several threads may be at work.
bool threaded();

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
  /// Takes over what other threads have sent, and returns the earliest time of it.
  virtual Time collect() = 0;

  std::uint64_t events_handled_ = 0;

 private:
  friend class Windows;

  void activate();
  void execute(Time now);  ///< the window at `now`; on any thread
  void finish();           ///< after it, on SystemC's own

  sc_core::sc_event wake_;
  Time lookahead_ = Time::never();
  Time armed_ = Time::never();  // window start of the pending activation
  std::exception_ptr failure_;
  double window_us_ = 0;  // how long a window takes to run, smoothed; decides the order of starting only
  bool elaborated_ = false;
};

/// A module that takes events of one small struct type from others.
template <class Event>
class Receiver : public Module {
 public:
  /// For Outlet only: hands over an event that arrives at `at` on `port`.
  void receive(std::uint32_t port, Time at, const Event& event) {
    if (threaded()) {
      Inbox& inbox = inboxes_[thread_index()];
      inbox.arrivals.push_back(Arrival{at, port, event});
      inbox.earliest = min(inbox.earliest, at);
    } else {
      arrivals_.push_back(Arrival{at, port, event});
      this->wake_for(at);
    }
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
  /// What has arrived since the last call of take_arrivals(), and has not been taken.
  const std::vector<Arrival>& arrivals() const { return arrivals_; }
  /// Calls visit(arrival) for everything that has arrived since the last call; of each port in the order of
  /// sending.
  template <class Visit>
  void take_arrivals(Visit visit) {
    for (const Arrival& a : arrivals_) visit(a);
    arrivals_.clear();
  }

 private:
  /// What one thread has sent since the last window.
  struct alignas(64) Inbox {
    std::vector<Arrival> arrivals;
    Time earliest = Time::never();
  };

  Time collect() final {
    Time earliest = Time::never();
    for (Inbox& inbox : inboxes_) {
      if (inbox.arrivals.empty()) continue;
      earliest = min(earliest, std::exchange(inbox.earliest, Time::never()));
      if (arrivals_.empty()) {
        std::swap(arrivals_, inbox.arrivals);
      } else {
        arrivals_.insert(arrivals_.end(), inbox.arrivals.begin(), inbox.arrivals.end());
        inbox.arrivals.clear();
      }
    }
    return earliest;
  }

  std::vector<Arrival> arrivals_;
  std::array<Inbox, kMostThreads> inboxes_;
  std::uint32_t inlets_ = 0;
};

/// A receiver that handles its events, and those it schedules for itself, one by one in the order of time.
template <class Event>
class EventModule : public Receiver<Event> {
 protected:
  explicit EventModule(sc_core::sc_module_name name) : Receiver<Event>{name} {}

  using Arrival = typename Receiver<Event>::Arrival;
  virtual void handle(Time now, const Event& event) = 0;
  /// These have arrived and will be handled at their times: a chance to have the host fetch what that takes.
  virtual void look_over(const Arrival* arrivals, std::size_t count) { (void)arrivals, (void)count; }
  /// Schedules a local event. Outside of handle() (elaboration), pass the absolute start time.
  void schedule(Time at, const Event& event) {
    wheel_.schedule(at, event);
    if (!running_) this->wake_for(at);  // in a window, its end sees to that
  }

 private:
  void accept_inbox() final {
    look_over(this->arrivals().data(), this->arrivals().size());
    this->take_arrivals([&](const auto& a) { wheel_.deliver(a.at, a.port, a.event); });
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
