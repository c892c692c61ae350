#pragma once
// Where a run of 256 B lies in the HBM: pseudo-channel, bank pair, row, column.
//
// A run lies in one row of one bank. Runs that follow one another in a channel go to bank groups in turn, so
// that their column accesses interleave at tCCD_S. Which pseudo-channel a run goes to rotates by a hash of
// the higher bits, so that no power-of-two stride favours a channel. The map is a bijection.

#include <cstdint>

#include "sim/core/hardware.hpp"
#include "sim/gpu/messages.hpp"

namespace tessera::sim {

struct HbmLocation {
  std::uint32_t channel;  ///< pseudo-channel, over all stacks
  std::uint32_t bank;     ///< over bank groups and stack IDs; its low bits are the bank group
  std::uint32_t row;
  std::uint32_t column;  ///< run within the row
};

class AddressMap {
 public:
  explicit AddressMap(const HbmSpec& hbm)
      : channels_{static_cast<std::uint32_t>(hbm.stacks * hbm.channels_per_stack * hbm.pseudo_channels)},
        groups_{static_cast<std::uint32_t>(hbm.bank_groups)},
        banks_per_group_{static_cast<std::uint32_t>(hbm.stack_ids * hbm.banks_per_group)},
        runs_per_row_{static_cast<std::uint32_t>(hbm.page_bytes / static_cast<std::int64_t>(kRunBytes))} {}

  std::uint32_t channels() const { return channels_; }
  std::uint32_t banks() const { return groups_ * banks_per_group_; }

  /// `run` is the byte address / 256.
  HbmLocation locate(std::uint32_t run) const {
    const std::uint32_t local = run / channels_;
    HbmLocation at{};
    at.channel = (run % channels_ + mix(local)) % channels_;
    const std::uint32_t group = local % groups_;
    at.column = local / groups_ % runs_per_row_;
    const std::uint32_t rest = local / groups_ / runs_per_row_;
    at.row = rest / banks_per_group_;
    at.bank = (rest % banks_per_group_ + at.row) % banks_per_group_ * groups_ + group;
    return at;
  }

 private:
  static std::uint32_t mix(std::uint64_t x) {
    return static_cast<std::uint32_t>((x * 0x9e3779b97f4a7c15ULL) >> 40U);
  }

  std::uint32_t channels_, groups_, banks_per_group_, runs_per_row_;
};

}  // namespace tessera::sim
