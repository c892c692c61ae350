#include "sim/gpu/hbm/lost_time.hpp"

#include <algorithm>

namespace tessera::sim {

HbmLostTime lost_time(const HbmSpec& spec, const HbmTiming& timing, const std::vector<HbmCommand>& commands,
                      Cycle end) {
  using Kind = HbmCommand::Kind;
  constexpr Cycle kLongAgo = -1'000'000'000;
  const auto groups = static_cast<std::uint32_t>(spec.bank_groups);
  const auto banks = groups * static_cast<std::uint32_t>(spec.banks_per_group * spec.stack_ids);
  std::vector<Cycle> activated(banks, kLongAgo), refreshed(banks, kLongAgo), group_used(groups, kLongAgo);
  Cycle data = 0, turnaround = 0, refresh = 0, rows = 0, bank_groups = 0;
  Cycle free = 0;  // the next slot of the column bus
  bool was_write = false, first = true;
  for (const HbmCommand& c : commands) {
    switch (c.kind) {
      case Kind::activate:
        activated[c.bank] = c.at;
        break;
      case Kind::refresh:
        for (std::uint32_t b = 0; b < banks; ++b) {
          if (!spec.per_bank_refresh || b == c.bank) refreshed[b] = c.at;
        }
        break;
      case Kind::precharge:
      case Kind::precharge_all:
        break;
      case Kind::read:
      case Kind::write: {
        const bool write = c.kind == Kind::write;
        const Cycle rcd = write ? timing.rcd_wr : timing.rcd_rd;
        Cycle gap = std::max<Cycle>(0, c.at - free);
        // Takes from the gap what lies before `until`.
        const auto take = [&](Cycle until, Cycle& account) {
          const Cycle part = std::clamp<Cycle>(until - free, 0, gap);
          account += part;
          gap -= part;
          free += part;
        };
        if (!first && write != was_write)
          take(free + (write ? timing.rtw : timing.wtr_s) - timing.ccd_s, turnaround);
        // The bank could be activated again only tRFC after its refresh, and that held up this access.
        if (activated[c.bank] >= refreshed[c.bank] + timing.rfc &&
            refreshed[c.bank] + timing.rfc + timing.rcd_rd > free)
          take(refreshed[c.bank] + timing.rfc + rcd, refresh);
        take(activated[c.bank] + rcd, rows);
        take(group_used[c.bank % groups] + timing.ccd_l, bank_groups);
        free = c.at + timing.ccd_s;
        data += timing.bl;
        group_used[c.bank % groups] = c.at;
        was_write = write;
        first = false;
        break;
      }
    }
  }
  const auto share = [&](Cycle part) {
    return end == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(end);
  };
  HbmLostTime lost{.data = share(data),
                   .turnaround = share(turnaround),
                   .refresh = share(refresh),
                   .rows = share(rows),
                   .bank_groups = share(bank_groups)};
  lost.other = std::max(0.0, 1 - lost.data - lost.turnaround - lost.refresh - lost.rows - lost.bank_groups);
  return lost;
}

}  // namespace tessera::sim
