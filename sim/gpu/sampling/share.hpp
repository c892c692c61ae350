#pragma once
// How much it matters what a kernel takes: by its share of the run that it is part of.

namespace tessera::sim {

/// An interval of a tenth of what takes less than this share of a run's time is 2 % of the whole, ...
inline constexpr double kSomeShare = 0.2;
/// ... and 0.2 %.
inline constexpr double kLittleShare = 0.02;

inline bool takes_little(double share) { return share < kLittleShare; }

}  // namespace tessera::sim
