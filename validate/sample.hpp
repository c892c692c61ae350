#pragma once
// Fewer measurements: the same rows on every machine.

#include <cstdint>

#include "validate/measurement.hpp"

namespace tessera::validate {

/// Leaves out the rows that took longer than `us`, and counts them.
void leave_out_longer(Measurements& measurements, double us);

/// Keeps at most `most` rows of each kind, in their order. What is kept of a kind depends on its rows and the
/// seed only.
void sample(std::vector<Measurement>& rows, std::size_t most, std::uint64_t seed);

}  // namespace tessera::validate
