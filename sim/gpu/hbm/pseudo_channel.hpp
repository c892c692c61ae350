#pragma once
// One HBM pseudo-channel: bank state machines under JEDEC timings and an FR-FCFS controller.
//
// A request is a run: each sector of it is a column access (BL8 x 32 bit = 32 B on HBM3) to the same row of
// the same bank, so one request uses every second slot of the column bus (tCCD_L) and another, in another
// bank group, the slots between (tCCD_S): the bus has tCCD_L / tCCD_S lanes. The controller issues at most
// one command a cycle on the row bus and one on the column bus. A request whose row was opened for it goes
// first; then, among requests whose rows are open, the oldest that can use the column bus. The row bus opens
// rows for the others, oldest first, as soon as their bank allows. A row is closed when only other rows of
// its bank are asked for, or after a bounded number of hits while others wait (HbmSpec::hit_cap,
// row_hits_first). Writes wait in a queue of their own and are drained in batches. Refresh commands are not
// postponed: a bank that is due serves what its row was opened for, and no more.

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "sim/core/hardware.hpp"
#include "sim/gpu/hbm/timing.hpp"

namespace tessera::sim {

struct HbmCommand {
  enum class Kind : std::uint8_t { activate, precharge, precharge_all, read, write, refresh };
  Kind kind;
  Cycle at;
  std::uint32_t bank;  ///< over bank groups and stack IDs; 0 where all are meant
  std::uint32_t row;
};

struct HbmCounters {
  std::uint64_t reads = 0, writes = 0;  ///< requests served
  std::uint64_t read_bytes = 0, write_bytes = 0;
  std::uint64_t row_hits = 0;  ///< requests that found their row open, opened for another
  std::uint64_t activates = 0, precharges = 0, refreshes = 0;
  Cycle data_busy = 0;

  HbmCounters& operator+=(const HbmCounters& n) {
    reads += n.reads;
    writes += n.writes;
    read_bytes += n.read_bytes;
    write_bytes += n.write_bytes;
    row_hits += n.row_hits;
    activates += n.activates;
    precharges += n.precharges;
    refreshes += n.refreshes;
    data_busy += n.data_busy;
    return *this;
  }
};

class PseudoChannel {
 public:
  PseudoChannel(const HbmSpec& spec, const HbmTiming& timing);

  struct Request {
    Cycle at = 0;  ///< when it reaches the controller
    std::uint32_t bank = 0, row = 0;
    std::uint32_t tag = 0;
    std::uint8_t sectors = 0xff;
    bool write = false;
  };
  struct Completion {
    Cycle data_end = 0;
    std::uint32_t tag = 0;
    bool read = false;
  };

  /// Has the host fetch what push(), and what run(), will touch.
  void prefetch_push() const { __builtin_prefetch(arrivals_.end(), 1); }
  void prefetch_run() const {
    const auto* const here = reinterpret_cast<const char*>(this);
    for (std::size_t at = 0; at < sizeof *this; at += 64) __builtin_prefetch(here + at, 1);
    const auto* const banks = reinterpret_cast<const char*>(banks_.data());
    for (std::size_t at = 0; at < banks_.size() * sizeof(Bank); at += 64) __builtin_prefetch(banks + at, 1);
  }
  /// Takes a request. Requests may come in any order as long as none is earlier than what run() has passed.
  void push(const Request& request);
  /// The next cycle in which there is something to do; kNever if nothing is left.
  Cycle next() const { return next_; }
  /// Everything before cycle `end`; calls done(completion) for every request, in the order of data_end.
  template <class Done>
  void run(Cycle end, Done&& done) {
    Completion completion;
    while (next_ < end) {
      if (step(completion)) done(completion);
    }
  }
  /// Requests that have come by `now` and are not served yet; run() has come to just there.
  std::size_t waiting(Cycle now) const {
    return arrivals_.count_until(now) + static_cast<std::size_t>(counts_[0] + counts_[1]);
  }
  /// Requests not served yet.
  std::size_t pending() const { return arrivals_.size() + static_cast<std::size_t>(counts_[0] + counts_[1]); }

  const HbmCounters& counters() const { return counters_; }
  std::uint64_t steps() const { return steps_; }
  /// Sees every command, for checks; empty in normal use.
  std::function<void(const HbmCommand&)> trace;

  static constexpr Cycle kNever = INT64_MAX;

 private:
  static constexpr std::uint16_t kNone = 0xffff;
  static constexpr Cycle kLongAgo = -1'000'000'000;

  struct Queued {
    std::uint32_t row = 0, tag = 0;
    std::uint32_t order = 0;
    std::uint16_t next = kNone;
    std::uint8_t sectors = 0;
  };
  /// Requests in the order of their times, in a ring: nearly all come in that order already.
  class Arrivals {
   public:
    bool empty() const { return size_ == 0; }
    std::size_t size() const { return size_; }
    const Request& front() const { return ring_[first_]; }
    std::size_t count_until(Cycle now) const {
      std::size_t n = 0;
      while (n < size_ && ring_[(first_ + n) & mask()].at <= now) ++n;
      return n;
    }
    void pop_front() {
      first_ = (first_ + 1) & mask();
      --size_;
    }
    /// Behind those of the same time.
    void insert(const Request& request) {
      if (size_ == ring_.size()) grow();
      std::size_t at = size_++;
      for (; at > 0 && place(at - 1).at > request.at; --at) place(at) = place(at - 1);
      place(at) = request;
    }
    /// Where the next one will go, for the host to fetch.
    const void* end() const { return ring_.data() + ((first_ + size_) & mask()); }

   private:
    std::size_t mask() const { return ring_.size() - 1; }
    Request& place(std::size_t i) { return ring_[(first_ + i) & mask()]; }
    void grow() {
      std::vector<Request> larger(std::max<std::size_t>(16, 2 * ring_.size()));
      for (std::size_t i = 0; i < size_; ++i) larger[i] = place(i);
      ring_ = std::move(larger);
      first_ = 0;
    }

    std::vector<Request> ring_;  // a power of two
    std::size_t first_ = 0, size_ = 0;
  };
  struct Bank {
    Cycle activated = kLongAgo, activate_ok = 0, precharge_ok = 0;
    std::uint32_t row = 0;
    bool open = false;
    bool owes = false;     // its row was opened for a request not yet served
    bool refresh = false;  // waits for its refresh
    std::array<std::uint16_t, 2> head{kNone, kNone}, tail{kNone, kNone};  // [write]
    std::array<std::uint16_t, 2> hits{0, 0};                              // queued for the open row, [write]
    unsigned streak = 0;
  };
  using BankMask = std::uint64_t;

  /// One cycle of the controller; moves next_ on. True if a request's column accesses were booked.
  bool step(Completion& done);
  void admit(Cycle now);
  bool wants_writes() const;
  void choose_mode();
  void refresh_due(Cycle now);
  void catch_up_refreshes(Cycle now);
  /// A row command for a refresh: the time of it, later than now if none can be issued yet.
  Cycle issue_refresh(Cycle now);
  Cycle issue_row(Cycle now);  ///< when to look at the row bus again
  bool issue_column(Cycle now, Completion& done);
  void activate(Cycle at, std::uint32_t bank);
  void precharge(Cycle at, std::uint32_t bank);
  void precharge_all(Cycle at);
  void close(std::uint32_t bank, Cycle at);
  void refresh(Cycle at, std::uint32_t bank);
  /// The earliest any bank can be activated, and this bank.
  Cycle activate_floor() const;
  Cycle activate_time(std::uint32_t bank) const;
  /// The first slot of the column bus from now on at which an access can begin.
  Cycle next_slot(Cycle now, bool write) const;
  /// Only other rows of the bank are asked for, or it is their turn.
  bool row_done(const Bank& bank, bool write) const {
    return bank.hits[write] == 0 || (had_its_share(bank) && entries_[bank.head[write]].row != bank.row);
  }
  bool had_its_share(const Bank& bank) const {
    return spec_.hit_cap > 0 && bank.streak >= static_cast<unsigned>(spec_.hit_cap);
  }
  /// A refresh waits that keeps every bank from anything new.
  bool all_wait_for_refresh() const {
    return refreshes_wanted_ != 0 && (!spec_.per_bank_refresh || spec_.refresh_exclusive);
  }
  /// Nothing keeps its row open against a request for another.
  bool closable(const Bank& bank, bool write) const;
  /// The oldest queued request of `write` for another row than the open one; kNone if there is none.
  std::uint16_t first_conflict(const Bank& bank, bool write) const;
  void unlink(std::uint32_t bank, bool write, std::uint16_t entry);

  /// Requests that wait for a row to be opened, or for a row that was opened for another.
  int undecided(bool write) const { return counts_[write] - owed_count_[write]; }
  bool full(bool write) const { return undecided(write) >= (write ? spec_.write_queue : spec_.read_queue); }
  std::uint32_t group_of(std::uint32_t bank) const { return bank & group_mask_; }
  /// The banks of the stack ID that the bank belongs to.
  BankMask stack_of(std::uint32_t bank) const {
    return first_stack_ << (bank / banks_per_stack_id_ * banks_per_stack_id_);
  }
  void note(HbmCommand::Kind kind, Cycle at, std::uint32_t bank) const {
    if (trace) trace(HbmCommand{kind, at, bank, banks_[bank].row});
  }

  const HbmSpec& spec_;
  const HbmTiming& t_;
  std::uint32_t group_mask_, banks_per_stack_id_;
  BankMask first_stack_;
  std::vector<Bank> banks_;
  std::vector<Queued> entries_;
  Arrivals arrivals_;                      // not yet in the queues
  std::array<BankMask, 2> waiting_{0, 0};  // banks with queued requests, [write]
  std::array<BankMask, 2> hit_{0, 0};      // of these, with one for the open row
  std::array<BankMask, 2> owed_{0, 0};     // open ones whose first access, [write], is still to come
  BankMask capped_ = 0;                    // open ones that have had their share of hits
  std::array<int, 2> counts_{0, 0}, owed_count_{0, 0};
  std::uint16_t free_entry_ = kNone;
  std::uint32_t next_order_ = 0;
  bool writing_ = false;

  Cycle next_ = kNever, next_row_ = 0, next_column_ = 0;
  // Column bus: groups of accesses are booked whole, each on a lane.
  std::array<Cycle, 8> lane_free_;  // the lane's next slot
  unsigned lanes_;
  Cycle last_column_ = kLongAgo;  // the latest access on any lane
  bool last_was_write_ = false;
  BankMask last_stack_ = 0;  // the banks of the stack ID that it was for
  // Per bank group, [write]: tCCD_L after its latest access; for reads also tWTR_L after its latest write.
  std::array<std::array<Cycle, 16>, 2> group_ok_;
  // Row bus.
  std::array<Cycle, 4> activates_{};  // the last four, for tFAW
  unsigned activate_index_ = 0;
  Cycle last_activate_ = kLongAgo, last_refresh_ = kLongAgo, last_precharge_ = kLongAgo;
  std::uint32_t last_activate_group_ = 0;
  Cycle next_refresh_;
  std::uint32_t refresh_bank_ = 0;  // whose turn is next
  unsigned refreshes_wanted_ = 0;

  std::uint64_t steps_ = 0;
  HbmCounters counters_;
};

}  // namespace tessera::sim
