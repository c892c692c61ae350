#pragma once
// Failures of a simulation, as opposed to bad input.

#include <stdexcept>
#include <string>

namespace tessera::sim {

/// No event is left but something still waits; what() names each barrier, queue or credit.
class DeadlockError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A conservation law was broken (bytes out != bytes in, an operation never retired): a defect in Tessera.
class ConservationError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

}  // namespace tessera::sim
