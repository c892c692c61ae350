#pragma once
// How many parts a FlashAttention library divides the keys into, for want of other work for the SMs.

#include <cstdint>

namespace tessera::kernels {

/// The fewest splits, up to `most`, whose last wave of CTAs is nearly as full (85 %) as the fullest choice's,
/// for `tiles` equal pieces of work over `sms` (hopper/heuristics.h, num_splits_heuristic).
std::uint32_t fewest_good_splits(std::int64_t tiles, std::int64_t sms, std::int64_t most);

}  // namespace tessera::kernels
