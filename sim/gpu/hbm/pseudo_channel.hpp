#pragma once
// One HBM pseudo-channel: bank state machines under JEDEC timings and an FR-FCFS scheduler.
//
// Requests are lines; each sector of one is a column access (BL8 x 32 bit = 32 B on HBM3). Rows are opened
// eagerly: as soon as no queued request hits a pair's open row, the row of its oldest request is opened,
// beside the data transfers of other banks. Among requests whose row is open, the one that can use the
// column bus first goes first, the oldest on a tie; a row that others wait for is closed after a bounded
// number of hits. Writes wait in a queue of their own and are drained in batches.

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "sim/core/hardware.hpp"
#include "sim/core/time.hpp"

namespace tessera::sim {

struct HbmCommand {
  enum class Kind : std::uint8_t { activate, precharge, read, write, refresh };
  Kind kind;
  Time at;
  std::uint32_t bank_group, bank;  ///< bank: over groups and stack IDs (pair * 2 + half)
  std::uint32_t row;
};

struct HbmCounters {
  std::uint64_t reads = 0, writes = 0;  ///< lines
  std::uint64_t read_bytes = 0, write_bytes = 0;
  std::uint64_t row_hits = 0, activates = 0, precharges = 0, refreshes = 0;
  Time data_busy;
};

/// The spec's timings as times.
struct HbmTimings {
  explicit HbmTimings(const HbmSpec& spec);
  Time ck, burst, ccd_s, ccd_l, ccd_r, rrd_s, rrd_l, rtp, rtw, wtr, cl, cwl, rcd_rd, rcd_wr, rp, ras, rc, wr,
      faw;
  Time rfc, refresh_interval;
};

class PseudoChannel {
 public:
  PseudoChannel(const HbmSpec& spec, const HbmTimings& timings);

  struct Request {
    std::uint32_t pair = 0, row = 0;
    std::uint8_t sectors = 0xf;
    bool write = false;
    std::uint32_t tag = 0;
  };
  struct Completion {
    Time data_end;
    std::uint32_t tag = 0;
    bool read = false;
  };

  bool full(bool write) const { return counts_[write] >= (write ? spec_.write_queue : spec_.read_queue); }
  bool idle() const { return counts_[0] + counts_[1] == 0; }
  int queued() const { return counts_[0] + counts_[1]; }

  /// Takes a request that arrives at `now`. The caller then runs step() no later than next_step().
  void push(Time now, const Request& request);
  /// When step() should run next; Time::never() if nothing is queued.
  Time next_step() const { return next_step_; }
  /// Serves at most one line. True if `done` was filled.
  bool step(Time now, Completion& done);

  const HbmCounters& counters() const { return counters_; }
  /// Sees every command, for checks; empty in normal use.
  std::function<void(const HbmCommand&)> trace;

 private:
  static constexpr std::uint32_t kNone = 0xffffffffU;
  static constexpr std::uint32_t kClosed = 0xffffffffU;
  static constexpr unsigned kHitCap = 32;  // hits in a row while another row of the pair waits

  struct Queued {
    Request request;
    std::uint64_t order = 0;
    std::uint32_t next = kNone;
  };
  /// Both banks of a pair open and close together, so one set of limits serves them: the later one's.
  struct Pair {
    Time activate_ok, activated, precharge_ok;
    std::uint32_t row = kClosed;
    std::array<std::uint32_t, 2> head{kNone, kNone}, tail{kNone, kNone};  // [write]
    std::array<std::uint16_t, 2> hits{0, 0};                              // queued for the open row
    unsigned streak = 0;
  };
  using PairMask = std::uint64_t;

  /// When the pair's first bank can be activated.
  Time activate_time(std::uint32_t pair) const;
  void activate(Time now, std::uint32_t pair, std::uint32_t row);
  Time precharge(Time now, std::uint32_t pair);  ///< returns when both banks are closed
  void refresh_due(Time now);
  std::uint32_t oldest_hit(const Pair& pair, bool write) const;
  void unlink(Pair& pair, bool write, std::uint32_t entry);
  void choose_mode();
  Time column_time(std::uint32_t pair, unsigned sector, bool write) const;
  std::uint32_t group_of(std::uint32_t pair, unsigned half) const {
    return (pair * 2 + half) % static_cast<std::uint32_t>(spec_.bank_groups);
  }
  std::uint32_t stack_id_of(std::uint32_t pair) const { return pair / pairs_per_stack_id_; }
  void note(HbmCommand::Kind kind, Time at, std::uint32_t pair, unsigned half, std::uint32_t row) const {
    if (trace) trace(HbmCommand{kind, at, group_of(pair, half), pair * 2 + half, row});
  }

  const HbmSpec& spec_;
  const HbmTimings& t_;
  std::uint32_t pairs_per_stack_id_;
  std::vector<Pair> pairs_;
  PairMask open_ = 0;                      // pairs with an open row
  std::array<PairMask, 2> waiting_{0, 0};  // pairs with queued requests, [write]
  std::array<PairMask, 2> hit_{0, 0};      // of these, with one for the open row
  std::vector<Queued> entries_;
  std::uint32_t free_entry_ = kNone;
  std::array<int, 2> counts_{0, 0};
  std::uint64_t next_order_ = 0;
  bool writing_ = false;

  // Column bus.
  Time last_column_;  // command time of the latest column access
  bool any_column_ = false, last_was_write_ = false;
  std::uint32_t last_stack_id_ = 0;
  std::array<Time, 16> last_in_group_{};  // per bank group
  std::array<bool, 16> group_used_{};
  // Row bus.
  std::array<Time, 4> activates_{};  // the last four, for tFAW
  unsigned activate_index_ = 0;
  std::uint64_t activate_count_ = 0;
  Time last_activate_;
  std::uint32_t last_activate_group_ = 0;

  Time next_refresh_;
  std::uint32_t refresh_bank_ = 0;
  Time next_step_ = Time::never();
  HbmCounters counters_;
};

}  // namespace tessera::sim
