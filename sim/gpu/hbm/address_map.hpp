#pragma once
// Where a 128 B line lies in the HBM: pseudo-channel, bank pair, row, column.
//
// The two sectors bits of a line select the bank group's lowest bit: sectors 0 and 2 lie in one bank group,
// 1 and 3 in the next, so that the four column accesses of a line keep tCCD_S. The two banks open the same
// row and are called a bank pair; a pair's row holds twice a page. Runs of two lines go to one
// pseudo-channel; which one rotates by a hash of the higher bits, so that no power-of-two stride favours a
// channel. The map is a bijection.

#include <cstdint>

#include "sim/core/hardware.hpp"

namespace tessera::sim {

struct HbmLocation {
  std::uint32_t channel;  ///< pseudo-channel, over all stacks
  std::uint32_t pair;     ///< bank pair, over all stack IDs
  std::uint32_t row;
  std::uint32_t column;  ///< line within the pair's row
};

class AddressMap {
 public:
  explicit AddressMap(const HbmSpec& hbm)
      : channels_{static_cast<std::uint32_t>(hbm.stacks * hbm.channels_per_stack * hbm.pseudo_channels)},
        pairs_{static_cast<std::uint32_t>(hbm.stack_ids * hbm.bank_groups * hbm.banks_per_group / 2)},
        lines_per_row_{static_cast<std::uint32_t>(2 * hbm.page_bytes / 128)} {}

  std::uint32_t channels() const { return channels_; }
  std::uint32_t pairs() const { return pairs_; }

  HbmLocation locate(std::uint64_t line) const {
    const std::uint64_t run = line / kRun;
    const std::uint64_t group = run / channels_;
    HbmLocation at{};
    at.channel = static_cast<std::uint32_t>((run % channels_ + mix(group)) % channels_);
    const std::uint64_t local = group * kRun + line % kRun;
    at.column = static_cast<std::uint32_t>(local % lines_per_row_);
    const std::uint64_t rest = local / lines_per_row_;
    at.row = static_cast<std::uint32_t>(rest / pairs_);
    at.pair = static_cast<std::uint32_t>((rest % pairs_ + at.row) % pairs_);
    return at;
  }

 private:
  static constexpr std::uint64_t kRun = 2;
  static std::uint64_t mix(std::uint64_t x) { return (x * 0x9e3779b97f4a7c15ULL) >> 40U; }

  std::uint32_t channels_, pairs_, lines_per_row_;
};

}  // namespace tessera::sim
