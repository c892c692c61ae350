#pragma once
// Random inputs that the GPU writes and the host can work out again, element by element: a value depends on a
// seed and its index only, so a float64 check needs no copy of the inputs.

#include <cstdint>

#include "kernels/cuda/host_device.hpp"

namespace tessera::cuda {

/// SplitMix64's output function (Steele, Lea, Flood, OOPSLA 2014): 64 well mixed bits of a counter.
TESSERA_HOST_DEVICE constexpr std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// The bits of an element, `mixed_seed` being mixed(seed).
TESSERA_HOST_DEVICE constexpr std::uint64_t bits_of(std::uint64_t mixed_seed, std::int64_t index) {
  return mixed(mixed_seed + static_cast<std::uint64_t>(index));
}

/// In [0, 1), a multiple of 2^-24: exact in fp32.
TESSERA_HOST_DEVICE constexpr float uniform_of(std::uint64_t bits) {
  return static_cast<float>(bits >> 40) * 0x1p-24F;
}
TESSERA_HOST_DEVICE constexpr float uniform_value(std::uint64_t seed, std::int64_t index) {
  return uniform_of(bits_of(mixed(seed), index));
}

/// Of mean 0 and standard deviation 1, nearly normal: the sum of four uniform 16-bit numbers, whose sum has a
/// variance of (2^32 - 1) / 3. The sum is exact; one multiplication rounds, the same way everywhere.
TESSERA_HOST_DEVICE constexpr float normal_of(std::uint64_t bits) {
  const auto part = [&](int i) { return static_cast<std::int32_t>((bits >> (16 * i)) & 0xffff); };
  const std::int32_t sum = part(0) + part(1) + part(2) + part(3) - 131070;
  return static_cast<float>(sum) * 2.6428964e-5F;  // sqrt(3 / (2^32 - 1))
}
TESSERA_HOST_DEVICE constexpr float normal_value(std::uint64_t seed, std::int64_t index) {
  return normal_of(bits_of(mixed(seed), index));
}

}  // namespace tessera::cuda
