#pragma once
// Tags of the whole L2: sets of ways, with per-sector valid and dirty bits and a mark for lines in flight.
//
// Replacement is not-recently-used: one bit per way, cleared for all others when the last one is set.

#include <bit>
#include <cstdint>
#include <vector>

namespace tessera::sim {

inline constexpr std::uint64_t kLineBytes = 128;
inline constexpr std::uint64_t kSectorBytes = 32;

class TagStore {
 public:
  static constexpr unsigned kWays = 16;
  static constexpr std::uint32_t kNoLine = 0xffffffffU;
  static constexpr std::uint32_t kNoWay = 0xffffffffU;

  explicit TagStore(std::uint32_t sets) : lines_(std::size_t{sets} * kWays, kNoLine), sets_(sets) {}

  /// Starts to bring a set into the host's cache, ahead of find().
  void prefetch(std::uint32_t set) const {
    __builtin_prefetch(&lines_[std::size_t{set} * kWays]);
    __builtin_prefetch(&sets_[set]);
  }
  /// The slot (set * 16 + way) that holds `line`, or kNoWay.
  std::uint32_t find(std::uint32_t set, std::uint32_t line) const {
    const std::uint32_t* way = &lines_[std::size_t{set} * kWays];
    std::uint32_t match = 0;
    for (unsigned w = 0; w < kWays; ++w) match |= static_cast<std::uint32_t>(way[w] == line) << w;
    return match == 0 ? kNoWay : set * kWays + static_cast<std::uint32_t>(std::countr_zero(match));
  }
  void touch(std::uint32_t slot) {
    Set& s = sets_[slot / kWays];
    const auto bit = static_cast<std::uint16_t>(1U << (slot % kWays));
    s.recent = static_cast<std::uint16_t>(s.recent | bit);
    if (s.recent == 0xffff) s.recent = bit;
  }
  /// A slot of `set` to replace, or kNoWay if every line of it is in flight.
  std::uint32_t victim(std::uint32_t set) const {
    const Set& s = sets_[set];
    const auto idle = static_cast<std::uint16_t>(~s.pending);
    const auto cold = static_cast<std::uint16_t>(idle & ~s.recent);
    const std::uint16_t choice = cold != 0 ? cold : idle;
    return choice == 0 ? kNoWay : set * kWays + static_cast<std::uint32_t>(std::countr_zero(choice));
  }
  void replace(std::uint32_t slot, std::uint32_t line) {
    lines_[slot] = line;
    sets_[slot / kWays].valid[slot % kWays] = 0;
    sets_[slot / kWays].dirty[slot % kWays] = 0;
  }

  std::uint32_t line(std::uint32_t slot) const { return lines_[slot]; }
  std::uint8_t& valid(std::uint32_t slot) { return sets_[slot / kWays].valid[slot % kWays]; }
  std::uint8_t& dirty(std::uint32_t slot) { return sets_[slot / kWays].dirty[slot % kWays]; }
  bool pending(std::uint32_t slot) const { return (sets_[slot / kWays].pending >> (slot % kWays) & 1U) != 0; }
  void set_pending(std::uint32_t slot, bool pending) {
    std::uint16_t& p = sets_[slot / kWays].pending;
    const auto bit = static_cast<std::uint16_t>(1U << (slot % kWays));
    p = static_cast<std::uint16_t>(pending ? p | bit : p & ~bit);
  }

 private:
  struct Set {
    std::uint8_t valid[kWays] = {};
    std::uint8_t dirty[kWays] = {};
    std::uint16_t recent = 0;
    std::uint16_t pending = 0;
  };
  std::vector<std::uint32_t> lines_;
  std::vector<Set> sets_;
};

}  // namespace tessera::sim
