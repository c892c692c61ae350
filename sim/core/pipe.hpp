#pragma once
// A pipe: a resource that serves one request after another at a rate, each result appearing a fixed
// latency after its service. Execution units, ports and buses are all pipes.

#include "sim/core/time.hpp"

namespace tessera::sim {

class Pipe {
 public:
  /// Occupies the pipe for `service` from `at` or from when it falls free; returns the end of service.
  Time reserve(Time at, Time service) {
    free_ = max(free_, at) + service;
    busy_ += service;
    return free_;
  }
  /// Takes nothing new before `at`.
  void hold_until(Time at) { free_ = max(free_, at); }
  /// When the pipe falls free.
  Time free_at() const { return free_; }
  /// Total time in service, for utilisation.
  Time busy() const { return busy_; }

 private:
  Time free_;
  Time busy_;
};

}  // namespace tessera::sim
