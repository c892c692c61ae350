#include "sim/gpu/l2/tag_store.hpp"

#include <numeric>

namespace tessera::sim {

namespace {

/// The number prime to `n` that is closest above `share` of it.
std::uint32_t coprime_near(std::uint32_t n, double share) {
  auto candidate = static_cast<std::uint32_t>(share * n);
  while (std::gcd(candidate, n) != 1) ++candidate;
  return candidate % n;
}

std::uint32_t inverse(std::uint32_t a, std::uint32_t n) {
  // Extended Euclid: keeps a * s = r (mod n).
  std::int64_t r0 = n, r1 = a, s0 = 0, s1 = 1;
  while (r1 != 0) {
    const std::int64_t q = r0 / r1;
    r0 -= q * r1;
    std::swap(r0, r1);
    s0 -= q * s1;
    std::swap(s0, s1);
  }
  return static_cast<std::uint32_t>((s0 % n + n) % n);
}

}  // namespace

// Of the pairs of badly approximable numbers tried, this one spreads the strides of 1 to 512 runs, and
// multiples of 64 KiB, most evenly over the slices.
SetMap::SetMap(std::uint32_t sets)
    : sets_{sets},
      scatter_{coprime_near(sets, 0.6710436067)},
      gather_{inverse(scatter_, sets)},
      turn_{coprime_near(sets, 0.6180339887)} {}

SetMap::Place SetMap::place(std::uint64_t run) const {
  Place p;
  p.quotient = static_cast<std::uint32_t>(run / sets_);
  p.remainder = static_cast<std::uint32_t>(run % sets_);
  p.set = static_cast<std::uint32_t>(
      (std::uint64_t{p.remainder} * scatter_ + std::uint64_t{p.quotient} * turn_) % sets_);
  return p;
}

std::uint64_t SetMap::run(std::uint32_t set, std::uint32_t tag) const {
  const std::uint64_t quotient = tag / 2;
  const std::uint64_t scattered = (set + sets_ - quotient * turn_ % sets_) % sets_;
  return quotient * sets_ + scattered * gather_ % sets_;
}

}  // namespace tessera::sim
