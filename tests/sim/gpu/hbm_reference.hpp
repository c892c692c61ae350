#pragma once
// A second FR-FCFS controller, written for comparison: it looks at every request in every half cycle and
// knows nothing of lanes, masks or next times. Its rules are those of the HBM3 controller of
// CMU-SAFARI/ramulator2
// @ c5b1c3a4 (src/ramulator/controller/impl/hbm34_controller.cpp and controller_base.cpp), for one
// pseudo-channel with one SID and accesses of 32 B:
//   - a row and a column bus; column commands, activates and refreshes on rising edges, precharges on any
//   edge;
//   - of the requests whose next command can be issued, the oldest first, on each bus;
//   - a request whose row has been opened for it goes before all others, and no one closes that row before
//   it;
//   - writes from 0.8 of the write queue down to 0.2, or while nothing reads;
//   - while a refresh waits, only what rows have been opened for is served.

#include <algorithm>
#include <deque>
#include <vector>

#include "sim/gpu/hbm/pseudo_channel.hpp"

namespace tessera::sim {

class ReferenceController {
 public:
  enum class Refresh { none, all_bank, per_bank };

  ReferenceController(const HbmSpec& spec, Refresh refresh)
      : spec_{spec},
        t_{spec},
        refresh_{refresh},
        banks_(static_cast<std::size_t>(spec.bank_groups * spec.banks_per_group)) {
    next_refresh_ = refresh == Refresh::none ? INT64_MAX : 2 * t_.refi;
  }

  bool can_take(bool write) const {
    return queue_[write].size() < static_cast<std::size_t>(write ? spec_.write_queue : spec_.read_queue);
  }
  void push(const PseudoChannel::Request& r) { queue_[r.write].push_back(r); }

  /// One half cycle. Calls done(tag, end of data in half cycles) for a served request.
  template <class Done>
  void tick(Done done) {
    const std::int64_t now = now_++;
    const bool rising = now % 2 == 0;
    if (now >= next_refresh_) {
      waiting_refreshes_.push_back(turn_);
      turn_ = (turn_ + 1) % static_cast<std::uint32_t>(banks_.size());
      next_refresh_ += 2 * t_.refi;
    }
    if (rising) column_slot(now, done);
    row_slot(now, rising);
  }
  std::int64_t now() const { return now_; }

 private:
  static constexpr std::int64_t kLongAgo = -1'000'000'000;
  struct Bank {
    bool open = false;
    std::uint32_t row = 0;
    int owed = 0;  // requests whose activate has been issued
    std::int64_t activated = kLongAgo, closed = kLongAgo, refreshed = kLongAgo, read = kLongAgo,
                 written = kLongAgo;
  };
  using Queue = std::deque<PseudoChannel::Request>;

  std::uint32_t group_of(std::uint32_t bank) const {
    return bank % static_cast<std::uint32_t>(spec_.bank_groups);
  }
  static bool after(std::int64_t now, std::int64_t then, Cycle cycles) { return now - then >= 2 * cycles; }

  bool column_ready(std::int64_t now, const PseudoChannel::Request& r) const {
    const Bank& b = banks_[r.bank];
    if (!b.open || b.row != r.row) return false;
    if (!after(now, b.activated, r.write ? t_.rcd_wr : t_.rcd_rd)) return false;
    const std::uint32_t group = group_of(r.bank);
    return after(now, last_[0], r.write ? t_.rtw : t_.ccd_s) &&
           after(now, last_[1], r.write ? t_.ccd_s : t_.wtr_s) &&
           after(now, last_of_group_[0][group], r.write ? t_.rtw : t_.ccd_l) &&
           after(now, last_of_group_[1][group], r.write ? t_.ccd_l : t_.wtr_l);
  }

  template <class Done>
  void column_slot(std::int64_t now, Done done) {
    Queue* from = &active_;
    auto best = pick(active_, [&](const auto& r) { return column_ready(now, r); });
    if (best == active_.end()) {
      if (!waiting_refreshes_.empty()) return;
      set_mode();
      from = &queue_[writing_];
      best = pick(*from, [&](const auto& r) { return column_ready(now, r); });
      if (best == from->end()) return;
    }
    const PseudoChannel::Request r = *best;
    Bank& b = banks_[r.bank];
    if (from == &active_) --b.owed;
    from->erase(best);
    (r.write ? b.written : b.read) = now;
    last_[r.write] = last_of_group_[r.write][group_of(r.bank)] = now;
    done(r.tag, now + 2 * ((r.write ? t_.cwl : t_.cl) + t_.bl));
  }

  bool precharge_ready(std::int64_t now, const Bank& b) const {
    return b.owed == 0 && after(now, b.activated, t_.ras) && after(now, b.read, t_.rtp) &&
           after(now, b.written, t_.wr);
  }
  void precharge(std::int64_t now, Bank& b) {
    b.open = false;
    b.closed = last_precharge_ = now;
  }
  bool activate_ready(std::int64_t now, std::uint32_t bank) const {
    const Bank& b = banks_[bank];
    return after(now, b.activated, t_.rc) && after(now, b.closed, t_.rp) && after(now, b.refreshed, t_.rfc) &&
           after(now, activates_[3], last_group_ == group_of(bank) ? t_.rrd_l : t_.rrd_s) &&
           after(now, activates_[0], t_.faw) && after(now, last_refresh_, t_.rrefd);
  }

  void row_slot(std::int64_t now, bool rising) {
    if (now < row_bus_free_) return;
    if (!waiting_refreshes_.empty()) return refresh(now, rising);
    set_mode();
    Queue& queue = queue_[writing_];
    const auto best = pick(queue, [&](const auto& r) {
      const Bank& b = banks_[r.bank];
      if (b.open) return b.row != r.row && precharge_ready(now, b) && after(now, last_precharge_, t_.ppd);
      return rising && activate_ready(now, r.bank);
    });
    if (best == queue.end()) return;
    Bank& b = banks_[best->bank];
    if (b.open) return precharge(now, b);
    b.open = true;
    b.row = best->row;
    b.activated = now;
    b.owed = 1;
    std::rotate(activates_.begin(), activates_.begin() + 1, activates_.end());
    activates_[3] = now;
    last_group_ = group_of(best->bank);
    row_bus_free_ = now + 3;  // an activate takes 1.5 cycles
    active_.push_back(*best);
    queue.erase(best);
  }

  void refresh(std::int64_t now, bool rising) {
    const bool all = refresh_ == Refresh::all_bank;
    bool open = false, closable = true, idle = true;
    for (std::uint32_t i = 0; i < banks_.size(); ++i) {
      if (!all && i != waiting_refreshes_.front()) continue;
      const Bank& b = banks_[i];
      open = open || b.open;
      if (b.open) closable = closable && precharge_ready(now, b);
      idle = idle && after(now, b.activated, t_.rc) && after(now, b.closed, t_.rp) &&
             after(now, b.refreshed, t_.rfc);
    }
    if (open) {
      if (!closable || !after(now, last_precharge_, t_.ppd)) return;
      for (std::uint32_t i = 0; i < banks_.size(); ++i) {
        if (all || i == waiting_refreshes_.front()) precharge(now, banks_[i]);
      }
      return;
    }
    if (!rising || !idle || !after(now, last_refresh_, t_.rrefd) || !after(now, activates_[3], t_.rrd_s))
      return;
    for (std::uint32_t i = 0; i < banks_.size(); ++i) {
      if (all || i == waiting_refreshes_.front()) banks_[i].refreshed = now;
    }
    last_refresh_ = now;
    waiting_refreshes_.pop_front();
  }

  void set_mode() {
    const double writes = static_cast<double>(queue_[1].size());
    if (!writing_)
      writing_ = writes > 0.8 * spec_.write_queue || queue_[0].empty();
    else if (writes < 0.2 * spec_.write_queue && !queue_[0].empty())
      writing_ = false;
  }

  /// The oldest of which `ready` holds: queues are in the order of arrival.
  template <class Ready>
  static Queue::iterator pick(Queue& queue, Ready ready) {
    return std::find_if(queue.begin(), queue.end(), ready);
  }

  const HbmSpec spec_;
  const HbmTiming t_;
  Refresh refresh_;
  std::vector<Bank> banks_;
  std::array<Queue, 2> queue_;  // [write]
  Queue active_;
  bool writing_ = false;
  std::array<std::int64_t, 2> last_{kLongAgo, kLongAgo};
  std::array<std::array<std::int64_t, 16>, 2> last_of_group_ = [] {
    std::array<std::array<std::int64_t, 16>, 2> a{};
    for (auto& x : a) x.fill(kLongAgo);
    return a;
  }();
  std::array<std::int64_t, 4> activates_{kLongAgo, kLongAgo, kLongAgo, kLongAgo};
  std::uint32_t last_group_ = 0, turn_ = 0;
  std::int64_t last_precharge_ = kLongAgo, last_refresh_ = kLongAgo, row_bus_free_ = 0, next_refresh_ = 0,
               now_ = 0;
  std::deque<std::uint32_t> waiting_refreshes_;
};

}  // namespace tessera::sim
