#pragma once
// An independent check of a pseudo-channel's commands against every timing constraint.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "sim/gpu/hbm/pseudo_channel.hpp"

namespace tessera::sim {

/// The first violation in `commands`, in words; "" if there is none.
inline std::string violation_of(const HbmSpec& spec, std::vector<HbmCommand> commands) {
  using Kind = HbmCommand::Kind;
  constexpr Cycle kLongAgo = -1'000'000;
  const HbmTiming t{spec};
  const auto groups = static_cast<std::uint32_t>(spec.bank_groups);
  const std::uint32_t banks_per_stack_id = groups * static_cast<std::uint32_t>(spec.banks_per_group);
  const auto group_of = [&](std::uint32_t bank) { return bank % groups; };
  const auto stack_id_of = [&](std::uint32_t bank) { return bank / banks_per_stack_id; };
  std::stable_sort(commands.begin(), commands.end(),
                   [](const auto& a, const auto& b) { return a.at < b.at; });

  struct Bank {
    bool open = false;
    std::uint32_t row = 0;
    Cycle activated = kLongAgo, closed = kLongAgo, refreshed = kLongAgo, read = kLongAgo, written = kLongAgo;
  };
  std::vector<Bank> banks(banks_per_stack_id * static_cast<std::uint32_t>(spec.stack_ids));
  std::vector<Cycle> activates;
  Cycle last_row = kLongAgo, last_precharge = kLongAgo, last_refresh = kLongAgo;
  std::uint32_t last_activated = 0;
  struct Column {
    Cycle at;
    bool write;
    std::uint32_t bank;
  };
  std::vector<Column> columns;

  std::string found;
  for (const HbmCommand& c : commands) {
    const auto require = [&](bool holds, const char* constraint) {
      if (!holds && found.empty())
        found = fmt::format("{} violated at cycle {} by bank {}", constraint, c.at, c.bank);
    };
    const auto require_closable = [&](const Bank& b) {
      require(c.at - b.activated >= t.ras, "tRAS");
      require(c.at - b.read >= t.rtp, "tRTP");
      require(c.at - b.written >= t.wr, "tWR");
    };
    if (c.bank >= banks.size()) return fmt::format("no bank {}", c.bank);
    Bank& b = banks[c.bank];
    if (c.kind != Kind::read && c.kind != Kind::write) {
      require(c.at > last_row, "one command a cycle on the row bus");
      last_row = c.at;
    }
    switch (c.kind) {
      case Kind::activate:
        require(!b.open, "activate of a closed bank");
        require(c.at - b.activated >= t.rc, "tRC");
        require(c.at - b.closed >= t.rp, "tRP");
        require(c.at - b.refreshed >= t.rfc, "tRFC");
        require(c.at - last_refresh >= t.rrefd, "tRREFD");
        if (!activates.empty())
          require(
              c.at - activates.back() >= (group_of(c.bank) == group_of(last_activated) ? t.rrd_l : t.rrd_s),
              "tRRD");
        if (activates.size() >= 4) require(c.at - activates[activates.size() - 4] >= t.faw, "tFAW");
        activates.push_back(c.at);
        last_activated = c.bank;
        b = Bank{.open = true, .row = c.row, .activated = c.at, .closed = b.closed, .refreshed = b.refreshed};
        break;
      case Kind::precharge:
        require(b.open, "precharge of an open bank");
        require_closable(b);
        require(c.at - last_precharge >= t.ppd, "tPPD");
        last_precharge = c.at;
        b.open = false;
        b.closed = c.at;
        break;
      case Kind::precharge_all:
        require(c.at - last_precharge >= t.ppd, "tPPD");
        last_precharge = c.at;
        for (Bank& any : banks) {
          if (!any.open) continue;
          require_closable(any);
          any.open = false;
          any.closed = c.at;
        }
        break;
      case Kind::refresh:
        for (std::uint32_t i = 0; i < banks.size(); ++i) {
          if (spec.per_bank_refresh && i != c.bank) continue;
          require(!banks[i].open, "refresh of a closed bank");
          require(c.at - banks[i].closed >= t.rp, "tRP before refresh");
          require(c.at - banks[i].refreshed >= t.rfc, "tRFC between refreshes");
          banks[i].refreshed = c.at;
        }
        require(c.at - last_refresh >= t.rrefd, "tRREFD between refreshes");
        last_refresh = c.at;
        break;
      case Kind::read:
      case Kind::write: {
        const bool write = c.kind == Kind::write;
        require(b.open && b.row == c.row, "access to the open row");
        require(c.at - b.activated >= (write ? t.rcd_wr : t.rcd_rd), "tRCD");
        if (!columns.empty()) {
          const Column& last = columns.back();
          const Cycle same =
              stack_id_of(last.bank) == stack_id_of(c.bank) ? t.ccd_s : std::max(t.ccd_s, t.ccd_r);
          require(c.at - last.at >= (last.write == write ? same
                                     : write             ? t.rtw
                                                         : t.wtr_s),
                  last.write == write ? "tCCD_S or tCCD_R"
                  : write             ? "tRTW"
                                      : "tWTR_S");
        }
        for (std::size_t i = columns.size(); i-- > 0 && c.at - columns[i].at < t.wtr_l;) {
          if (group_of(columns[i].bank) != group_of(c.bank)) continue;
          require(c.at - columns[i].at >= (columns[i].write == write ? t.ccd_l
                                           : write                   ? t.rtw
                                                                     : t.wtr_l),
                  columns[i].write == write ? "tCCD_L"
                  : write                   ? "tRTW"
                                            : "tWTR_L");
        }
        columns.push_back({c.at, write, c.bank});
        (write ? b.written : b.read) = c.at;
        break;
      }
    }
    if (!found.empty()) return found;
  }
  return "";
}

}  // namespace tessera::sim
