#pragma once
// A kernel's outputs held against float64.

#include <string>

#include "validate/measure/device.hpp"

namespace tessera::measure {

/// Elements of the outputs that are looked at: all of a small workload, some of a large one, where each costs
/// the host a row of products.
std::size_t sample_limit(const Workload& workload);

struct Check {
  /// |got - expected| / rms(expected of the operand) of the element that is nearest to what its operand's
  /// type allows, or farthest beyond it.
  double error = 0, allowed = 0;
  std::size_t elements = 0;
  std::string worst;  ///< "out[12]: 0.5, expected 0.25"
  bool passed = false;
};

/// Fills a set, runs it once and compares. Elements that are not finite, poison left among them, fail.
Check check(Device& device, const Workload& workload, const Call& set, std::uint64_t seed);

}  // namespace tessera::measure
