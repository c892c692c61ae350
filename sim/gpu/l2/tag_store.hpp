#pragma once
// Tags of the whole L2: sets of 16 ways of 128 B lines, with a valid and a dirty bit per sector and a mark
// for lines in flight. Everything about a set fills one cache line of the host.
//
// Replacement is not-recently-used: one bit per way, cleared for all others when the last one is set.

#include <array>
#include <bit>
#include <cstdint>
#include <vector>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "kernels/tile/op.hpp"

namespace tessera::sim {

using tile::kLineBytes;
inline constexpr std::uint64_t kSectorBytes = 32;

/// One set. A tag is any number below 2^20; sectors of a line are the low four bits of a mask.
class alignas(64) TagSet {
 public:
  static constexpr unsigned kWays = 16;
  static constexpr unsigned kNoWay = 0xff;
  static constexpr std::uint32_t kTags = (1U << 20U) - 1;  ///< tags are below this; it marks an empty way
  static constexpr std::uint32_t kNoMiss = 0xffffffffU;

  TagSet() { low_.fill(0xffff); }

  unsigned find(std::uint32_t tag) const {
    for (std::uint32_t match = matches(static_cast<std::uint16_t>(tag)); match != 0; match &= match - 1) {
      const auto way = static_cast<unsigned>(std::countr_zero(match));
      if (high(way) == tag >> 16U) return way;
    }
    return kNoWay;
  }
  void touch(unsigned way) {
    const auto bit = static_cast<std::uint16_t>(1U << way);
    recent_ = static_cast<std::uint16_t>(recent_ | bit);
    if (recent_ == 0xffff) recent_ = bit;
  }
  /// A way to replace, or kNoWay if every line of the set is in flight.
  unsigned victim() const {
    const auto idle = static_cast<std::uint16_t>(~pending_);
    const auto cold = static_cast<std::uint16_t>(idle & ~recent_);
    const std::uint16_t choice = cold != 0 ? cold : idle;
    return choice == 0 ? kNoWay : static_cast<unsigned>(std::countr_zero(choice));
  }
  void replace(unsigned way, std::uint32_t tag) {
    low_[way] = static_cast<std::uint16_t>(tag);
    high_ = (high_ & ~(std::uint64_t{0xf} << 4 * way)) | std::uint64_t{tag >> 16U} << 4 * way;
    sectors_[way] = 0;
  }

  std::uint32_t tag(unsigned way) const { return low_[way] | high(way) << 16U; }
  unsigned valid(unsigned way) const { return sectors_[way] & 0xfU; }
  unsigned dirty(unsigned way) const { return sectors_[way] >> 4U; }
  void add_valid(unsigned way, unsigned sectors) {
    sectors_[way] = static_cast<std::uint8_t>(sectors_[way] | sectors);
  }
  void add_dirty(unsigned way, unsigned sectors) { add_valid(way, sectors << 4U); }
  void clean(unsigned way) { sectors_[way] &= 0xfU; }
  bool pending(unsigned way) const { return (pending_ >> way & 1U) != 0; }
  bool any_pending() const { return pending_ != 0; }
  void set_pending(unsigned way, bool pending) {
    const auto bit = static_cast<std::uint16_t>(1U << way);
    pending_ = static_cast<std::uint16_t>(pending ? pending_ | bit : pending_ & ~bit);
  }

 private:
  std::uint32_t high(unsigned way) const { return static_cast<std::uint32_t>(high_ >> 4 * way & 0xfU); }
  /// A bit for each way whose tag ends in `low`.
  std::uint32_t matches(std::uint16_t low) const {
#if defined(__SSE2__)
    const __m128i wanted = _mm_set1_epi16(static_cast<short>(low));
    const auto* tags = reinterpret_cast<const __m128i*>(low_.data());
    const __m128i equal = _mm_packs_epi16(_mm_cmpeq_epi16(_mm_load_si128(tags), wanted),
                                          _mm_cmpeq_epi16(_mm_load_si128(tags + 1), wanted));
    return static_cast<std::uint32_t>(_mm_movemask_epi8(equal));
#else
    std::uint32_t match = 0;
    for (unsigned way = 0; way < kWays; ++way) match |= static_cast<std::uint32_t>(low_[way] == low) << way;
    return match;
#endif
  }

  std::array<std::uint16_t, kWays> low_{};
  std::array<std::uint8_t, kWays> sectors_{};  // low four bits: valid, upper four: dirty
  std::uint64_t high_ = ~std::uint64_t{0};     // the tags' upper four bits
  std::uint16_t recent_ = 0, pending_ = 0;

 public:
  std::uint32_t first_homeless = kNoMiss;  ///< the cache's list of misses that found all ways in flight
};
static_assert(sizeof(TagSet) == 64);

/// Which set and tag a run of two lines has. A bijection: both lines of a run lie in the same set, runs that
/// follow one another, or lie a stride apart, in sets far from each other and evenly over all.
class SetMap {
 public:
  explicit SetMap(std::uint32_t sets);

  /// A run's set and tag, kept up to date while moving through memory.
  struct Place {
    std::uint32_t quotient = 0, remainder = 0;  ///< run / sets, run % sets
    std::uint32_t set = 0;
    std::uint32_t tag(unsigned line) const { return quotient * 2 + line; }
  };
  Place place(std::uint64_t run) const;
  /// The run that has this set and tag.
  std::uint64_t run(std::uint32_t set, std::uint32_t tag) const;
  /// `at` moved on by the distance of run number `step.quotient * sets + step.remainder` from run 0.
  Place sum(Place at, const Place& step) const {
    at.quotient += step.quotient;
    at.remainder += step.remainder;
    at.set += step.set;
    if (at.remainder >= sets_) {
      at.remainder -= sets_;
      ++at.quotient;
      at.set += turn_;
    }
    while (at.set >= sets_) at.set -= sets_;
    return at;
  }

 private:
  // set = (remainder * scatter + quotient * turn) mod sets, with scatter prime to sets.
  std::uint32_t sets_, scatter_, gather_, turn_;
};

}  // namespace tessera::sim
