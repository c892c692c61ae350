#include "sim/gpu/hbm/pseudo_channel.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>

namespace tessera::sim {

namespace {

template <class Visit>
void for_each_bit(std::uint64_t mask, Visit visit) {
  for (; mask != 0; mask &= mask - 1) visit(static_cast<std::uint32_t>(std::countr_zero(mask)));
}

}  // namespace

PseudoChannel::PseudoChannel(const HbmSpec& spec, const HbmTiming& timing)
    : spec_{spec},
      t_{timing},
      group_mask_{static_cast<std::uint32_t>(spec.bank_groups) - 1},
      banks_per_stack_id_{static_cast<std::uint32_t>(spec.bank_groups * spec.banks_per_group)},
      first_stack_{~BankMask{0} >> (64 - std::min(64U, banks_per_stack_id_))},
      banks_(banks_per_stack_id_ * static_cast<std::uint32_t>(spec.stack_ids)),
      lanes_{static_cast<unsigned>(std::clamp<Cycle>(timing.ccd_l / timing.ccd_s, 1, 8))},
      next_refresh_{timing.refi} {
  if (banks_.size() > 64) throw std::invalid_argument{"hbm: more than 64 banks per pseudo-channel"};
  if (!std::has_single_bit(static_cast<unsigned>(spec.bank_groups)) || spec.bank_groups > 16)
    throw std::invalid_argument{"hbm.bank_groups: expected 1, 2, 4, 8 or 16"};
  if (spec.read_queue + spec.write_queue >= kNone)
    throw std::invalid_argument{"hbm: queues of more than 65534"};
  lane_free_.fill(kLongAgo);
  group_ok_[0].fill(kLongAgo);
  group_ok_[1].fill(kLongAgo);
  last_stack_ = first_stack_;
  activates_.fill(kLongAgo);
}

void PseudoChannel::push(const Request& request) {
  const bool first = arrivals_.empty() || request.at < arrivals_.front().at;
  if (first && !full(request.write)) next_ = std::min(next_, request.at);
  arrivals_.insert(request);
}

void PseudoChannel::admit(Cycle now) {
  while (!arrivals_.empty() && arrivals_.front().at <= now && !full(arrivals_.front().write)) {
    const Request request = arrivals_.front();
    arrivals_.pop_front();
    std::uint16_t e = free_entry_;
    if (e != kNone) {
      free_entry_ = entries_[e].next;
    } else {
      e = static_cast<std::uint16_t>(entries_.size());
      entries_.emplace_back();
    }
    entries_[e] =
        Queued{.row = request.row, .tag = request.tag, .order = next_order_++, .sectors = request.sectors};
    Bank& bank = banks_[request.bank];
    const bool w = request.write;
    const bool first = bank.head[w] == kNone;
    (first ? bank.head[w] : entries_[bank.tail[w]].next) = e;
    bank.tail[w] = e;
    ++counts_[w];
    const BankMask bit = BankMask{1} << request.bank;
    waiting_[w] |= bit;
    if (bank.open && bank.row == request.row) {
      ++bank.hits[w];
      hit_[w] |= bit;
      next_column_ = std::min(next_column_, now);
    } else if (first || !spec_.row_hits_first) {
      next_row_ = now;
    }
  }
}

void PseudoChannel::unlink(std::uint32_t index, bool write, std::uint16_t entry) {
  Bank& bank = banks_[index];
  std::uint16_t* link = &bank.head[write];
  std::uint16_t previous = kNone;
  while (*link != entry) {
    previous = *link;
    link = &entries_[previous].next;
  }
  *link = entries_[entry].next;
  if (bank.tail[write] == entry) bank.tail[write] = previous;
  if (bank.head[write] == kNone) waiting_[write] &= ~(BankMask{1} << index);
  entries_[entry].next = free_entry_;
  free_entry_ = entry;
  --counts_[write];
}

void PseudoChannel::precharge(Cycle at, std::uint32_t index) {
  note(HbmCommand::Kind::precharge, at, index);
  ++counters_.precharges;
  last_precharge_ = at;
  close(index, at);
}

void PseudoChannel::precharge_all(Cycle at) {
  note(HbmCommand::Kind::precharge_all, at, 0);
  ++counters_.precharges;
  last_precharge_ = at;
  for (std::uint32_t b = 0; b < banks_.size(); ++b) {
    if (banks_[b].open) close(b, at);
  }
}

void PseudoChannel::close(std::uint32_t index, Cycle at) {
  Bank& bank = banks_[index];
  bank.activate_ok = std::max(bank.activate_ok, at + t_.rp);
  bank.open = bank.owes = false;
  bank.hits = {0, 0};
  const BankMask bit = BankMask{1} << index;
  hit_[0] &= ~bit;
  hit_[1] &= ~bit;
  for (unsigned w = 0; w < 2; ++w) {
    if ((owed_[w] & bit) == 0) continue;
    owed_[w] &= ~bit;
    --owed_count_[w];
  }
  capped_ &= ~bit;
}

void PseudoChannel::activate(Cycle at, std::uint32_t index) {
  Bank& bank = banks_[index];
  bank.row = entries_[bank.head[writing_]].row;
  note(HbmCommand::Kind::activate, at, index);
  ++counters_.activates;
  last_activate_ = at;
  last_activate_group_ = group_of(index);
  activates_[activate_index_] = at;
  activate_index_ = (activate_index_ + 1) % 4;
  bank.activated = at;
  bank.activate_ok = at + t_.rc;
  bank.precharge_ok = at + t_.ras;
  bank.open = true;
  bank.owes = true;
  bank.streak = 0;
  const BankMask bit = BankMask{1} << index;
  owed_[writing_] |= bit;
  ++owed_count_[writing_];
  for (unsigned w = 0; w < 2; ++w) {
    bank.hits[w] = 0;
    for (std::uint16_t e = bank.head[w]; e != kNone; e = entries_[e].next)
      bank.hits[w] = static_cast<std::uint16_t>(bank.hits[w] + (entries_[e].row == bank.row ? 1 : 0));
    if (bank.hits[w] != 0) hit_[w] |= bit;
  }
  next_column_ = std::min(next_column_, at + (writing_ ? t_.rcd_wr : t_.rcd_rd));
}

void PseudoChannel::refresh(Cycle at, std::uint32_t index) {
  note(HbmCommand::Kind::refresh, at, index);
  ++counters_.refreshes;
  last_refresh_ = at;
  banks_[index].activate_ok = at + t_.rfc;
}

Cycle PseudoChannel::activate_floor() const {
  return std::max(std::max(last_activate_ + t_.rrd_s, activates_[activate_index_] + t_.faw),
                  last_refresh_ + t_.rrefd);
}

Cycle PseudoChannel::activate_time(std::uint32_t index) const {
  const Cycle rrd = group_of(index) == last_activate_group_ ? t_.rrd_l : t_.rrd_s;
  return std::max(std::max(banks_[index].activate_ok, last_activate_ + rrd), activate_floor());
}

bool PseudoChannel::wants_writes() const {
  const int reads = undecided(false), writes = undecided(true);
  if (writing_) return writes > 0 && (reads == 0 || writes > spec_.write_drain_low);
  return writes >= spec_.write_drain_high || (reads == 0 && writes > 0);
}

void PseudoChannel::choose_mode() {
  const bool writes = wants_writes();
  if (writes == writing_) return;
  writing_ = writes;
  next_row_ = next_column_ = 0;
}

std::uint16_t PseudoChannel::first_conflict(const Bank& bank, bool write) const {
  std::uint16_t e = bank.head[write];
  while (e != kNone && entries_[e].row == bank.row) e = entries_[e].next;
  return e;
}

bool PseudoChannel::closable(const Bank& bank, bool write) const {
  if (bank.owes) return false;
  return row_done(bank, write) || (!spec_.row_hits_first && first_conflict(bank, write) != kNone);
}

void PseudoChannel::refresh_due(Cycle now) {
  while (next_refresh_ <= now) {
    if (spec_.per_bank_refresh) {
      Bank& bank = banks_[refresh_bank_];
      if (bank.refresh) return;  // the one before is still waiting
      bank.refresh = true;
      refresh_bank_ = (refresh_bank_ + 1) % static_cast<std::uint32_t>(banks_.size());
    } else if (refreshes_wanted_ != 0) {
      return;
    }
    ++refreshes_wanted_;
    next_refresh_ += t_.refi;
    next_row_ = 0;
  }
}

Cycle PseudoChannel::issue_refresh(Cycle now) {
  const auto close_ready = [&](const Bank& bank) {
    return bank.owes ? kNever : std::max(bank.precharge_ok, last_precharge_ + t_.ppd);
  };
  if (!spec_.per_bank_refresh) {
    bool open = false;
    Cycle closed = 0, ready = std::max(last_activate_ + t_.rrd_l, last_refresh_ + t_.rrefd);
    for (const Bank& bank : banks_) {
      open = open || bank.open;
      if (bank.open) closed = std::max(closed, close_ready(bank));
      ready = std::max(ready, bank.activate_ok);
    }
    if (open) {
      if (closed <= now) precharge_all(now);
      return closed;
    }
    if (ready > now) return ready;
    refresh(now, 0);
    for (Bank& bank : banks_) bank.activate_ok = now + t_.rfc;
    refreshes_wanted_ = 0;
    return now;
  }
  Cycle soonest = kNever;
  for (std::uint32_t b = 0; b < banks_.size(); ++b) {
    Bank& bank = banks_[b];
    if (!bank.refresh) continue;
    const Cycle ready = bank.open ? close_ready(bank) : activate_time(b);
    if (ready > now) {
      soonest = std::min(soonest, ready);
      continue;
    }
    if (bank.open) {
      precharge(now, b);
      return now;
    }
    refresh(now, b);
    bank.refresh = false;
    --refreshes_wanted_;
    next_column_ = std::min(next_column_, now);
    return now;
  }
  return soonest;
}

Cycle PseudoChannel::issue_row(Cycle now) {
  if (now == last_activate_ || now == last_precharge_ || now == last_refresh_) return now + 1;  // taken
  Cycle soonest = kNever;
  if (refreshes_wanted_ != 0) {
    soonest = issue_refresh(now);
    if (soonest <= now) return now + 1;
    if (all_wait_for_refresh()) return soonest;
  }
  const bool w = writing_;
  const Cycle any_precharge = last_precharge_ + t_.ppd;
  const Cycle any_activate = activate_floor();
  constexpr std::uint64_t kAfterActivates = std::uint64_t{1} << 32;
  std::uint32_t best = 0;
  std::uint64_t best_order = UINT64_MAX;
  const BankMask may_close = spec_.row_hits_first ? ~hit_[w] | capped_ : ~BankMask{0};
  for_each_bit(waiting_[w] & may_close, [&](std::uint32_t b) {
    const Bank& bank = banks_[b];
    Cycle ready;
    if (bank.open) {
      if (!closable(bank, w)) return;
      ready = std::max(bank.precharge_ok, any_precharge);
    } else {
      if (bank.refresh) return;
      ready = std::max(bank.activate_ok, any_activate);
      if (group_of(b) == last_activate_group_) ready = std::max(ready, last_activate_ + t_.rrd_l);
    }
    if (ready > now) {
      soonest = std::min(soonest, ready);
      return;
    }
    if (best_order != UINT64_MAX) soonest = now + 1;  // one of the two has to wait
    // Activates are scarcer than slots of the bus (tFAW): no precharge delays one.
    const std::uint64_t order =
        bank.open ? entries_[first_conflict(bank, w)].order + kAfterActivates : entries_[bank.head[w]].order;
    if (order < best_order) {
      best = b;
      best_order = order;
    }
  });
  if (best_order == UINT64_MAX) return soonest;
  if (!banks_[best].open) {
    activate(now, best);
    return wants_writes() == writing_ ? soonest : now + 1;
  }
  precharge(now, best);
  return std::min(soonest, banks_[best].activate_ok);
}

Cycle PseudoChannel::next_slot(Cycle now, bool write) const {
  if (write != last_was_write_) return std::max(now, last_column_ + (write ? t_.rtw : t_.wtr_s));
  if (last_column_ + t_.ccd_s <= now) return now;  // the bus is empty
  Cycle slot = last_column_ + t_.ccd_s;
  for (unsigned lane = 0; lane < lanes_; ++lane) {
    // The slots of a lane are tCCD_L apart, also while it is free, until the bus is empty.
    Cycle free = lane_free_[lane];
    if (free < now) free += (now - free + t_.ccd_l - 1) / t_.ccd_l * t_.ccd_l;
    slot = std::min(slot, free);
  }
  return slot;
}

bool PseudoChannel::issue_column(Cycle now, Completion& done) {
  std::uint32_t best = 0, best_order = UINT32_MAX;
  std::uint16_t best_entry = kNone;
  bool w = writing_;
  Cycle soonest = kNever;
  /// The oldest access of the banks in `mask` that can begin now.
  const auto look = [&](BankMask mask, bool write, bool owed) {
    if (mask == 0) return;
    if (const Cycle slot = next_slot(now, write); slot > now) {
      soonest = std::min(soonest, slot);
      return;
    }
    const Cycle rcd = write ? t_.rcd_wr : t_.rcd_rd,
                other_stack = last_column_ + std::max(t_.ccd_r, t_.ccd_s);
    const std::array<Cycle, 16>& group_ok = group_ok_[write];
    for_each_bit(mask, [&](std::uint32_t b) {
      const Bank& bank = banks_[b];
      if (!owed && (bank.refresh || row_done(bank, write))) return;
      Cycle ready = std::max(bank.activated + rcd, group_ok[group_of(b)]);
      if ((last_stack_ >> b & 1U) == 0) ready = std::max(ready, other_stack);
      if (ready > now) {
        soonest = std::min(soonest, ready);
        return;
      }
      std::uint16_t e = bank.head[write];
      while (entries_[e].row != bank.row) e = entries_[e].next;
      if (best_order != UINT32_MAX) soonest = now + 1;
      if (entries_[e].order < best_order) {
        best = b;
        best_entry = e;
        best_order = entries_[e].order;
        w = write;
      }
    });
  };
  look(owed_[0], false, true);
  look(owed_[1], true, true);
  if (best_entry == kNone && !all_wait_for_refresh())
    look(hit_[writing_] & ~owed_[writing_], writing_, false);
  next_column_ = soonest;
  if (best_entry == kNone) return false;

  Bank& bank = banks_[best];
  const Queued request = entries_[best_entry];
  // A table: without -mpopcnt the intrinsic is a library call.
  constexpr std::uint64_t kCounts = 0x4332322132212110ULL;
  const int accesses = static_cast<int>((kCounts >> (request.sectors & 0xfU) * 4 & 0xfU) +
                                        (kCounts >> (request.sectors >> 4U) * 4 & 0xfU));
  const Cycle last = now + (accesses - 1) * t_.ccd_l;
  const BankMask stack = stack_of(best);
  if (w != last_was_write_ || stack != last_stack_ || last_column_ + t_.ccd_s <= now) {
    // The bus was empty, or is used in another way from here on: its slots are counted from here.
    for (unsigned lane = 0; lane < lanes_; ++lane) lane_free_[lane] = now + lane * t_.ccd_s;
    lane_free_[0] = last + t_.ccd_l;
  } else {
    for (unsigned lane = 0; lane < lanes_; ++lane) {
      if (lane_free_[lane] > now || (now - lane_free_[lane]) % t_.ccd_l != 0) continue;
      lane_free_[lane] = last + t_.ccd_l;
      break;
    }
  }
  last_column_ = std::max(w == last_was_write_ ? last_column_ : now, last);
  last_was_write_ = w;
  last_stack_ = stack;
  group_ok_[1][group_of(best)] = last + t_.ccd_l;
  Cycle& read_ok = group_ok_[0][group_of(best)];
  read_ok = std::max(read_ok, last + (w ? std::max(t_.ccd_l, t_.wtr_l) : t_.ccd_l));
  bank.precharge_ok = std::max(bank.precharge_ok, last + (w ? t_.wr : t_.rtp));
  if (trace) {
    for (int i = 0; i < accesses; ++i)
      note(w ? HbmCommand::Kind::write : HbmCommand::Kind::read, now + i * t_.ccd_l, best);
  }
  counters_.data_busy += accesses * t_.bl;
  (w ? counters_.write_bytes : counters_.read_bytes) +=
      static_cast<std::uint64_t>(accesses) * static_cast<std::uint64_t>(spec_.access_bytes);
  ++(w ? counters_.writes : counters_.reads);
  if (const BankMask bit = BankMask{1} << best; (owed_[w] & bit) != 0) {
    owed_[w] &= ~bit;
    --owed_count_[w];
    bank.owes = false;
  }
  if (++bank.streak > 1) ++counters_.row_hits;
  if (had_its_share(bank)) capped_ |= BankMask{1} << best;
  if (--bank.hits[w] == 0) hit_[w] &= ~(BankMask{1} << best);
  unlink(best, w, best_entry);
  // No other access before the next slot; by then the direction may have changed too.
  if (counts_[0] + counts_[1] != 0) next_column_ = next_slot(now + 1, w);
  if (bank.refresh || refreshes_wanted_ != 0 || (bank.head[writing_] != kNone && closable(bank, writing_)))
    next_row_ = std::min(next_row_, bank.precharge_ok);
  done = Completion{last + (w ? t_.cwl : t_.cl) + t_.bl, request.tag, !w};
  return true;
}

/// What happened to the banks while nothing was queued: their refreshes, with the row bus to themselves.
void PseudoChannel::catch_up_refreshes(Cycle now) {
  const auto banks = static_cast<std::uint32_t>(banks_.size());
  const auto close_time = [&](Cycle at, std::uint32_t b) {
    return std::max(std::max(at, banks_[b].precharge_ok),
                    std::max(last_precharge_ + t_.ppd, last_activate_ + 1));
  };
  const auto ready = [&](Cycle at, std::uint32_t b) {
    return std::max(std::max(at, last_refresh_ + t_.rrefd),
                    std::max(banks_[b].activate_ok, last_activate_ + t_.rrd_l));
  };
  const auto close_all = [&](Cycle at) {
    bool open = false;
    for (std::uint32_t b = 0; b < banks; ++b) {
      open = open || banks_[b].open;
      if (banks_[b].open) at = std::max(at, close_time(at, b));
    }
    if (open) precharge_all(at);
  };
  const auto one = [&](Cycle at, std::uint32_t b) {
    if (banks_[b].open) precharge(close_time(at, b), b);
    at = ready(at, b);
    refresh(at == last_precharge_ ? at + 1 : at, b);
  };
  const auto all = [&](Cycle at) {
    close_all(at);
    for (std::uint32_t b = 0; b < banks; ++b) at = ready(at, b);
    refresh(at, 0);
    for (Bank& bank : banks_) bank.activate_ok = at + t_.rfc;
  };
  if (refreshes_wanted_ != 0) {
    refreshes_wanted_ = 0;
    if (!spec_.per_bank_refresh) all(last_column_);
    for (std::uint32_t b = 0; b < banks; ++b) {
      if (banks_[b].refresh) one(last_column_, b);
      banks_[b].refresh = false;
    }
  }
  if (next_refresh_ > now) return;
  // Of a long silence only each bank's last refresh matters.
  const Cycle round = spec_.per_bank_refresh ? banks : 1;
  const Cycle missed = (now - next_refresh_) / t_.refi + 1;
  if (missed > round) {
    close_all(next_refresh_);
    const Cycle skipped = (missed - round) / round * round;
    counters_.refreshes += static_cast<std::uint64_t>(skipped);
    next_refresh_ += skipped * t_.refi;
  }
  for (; next_refresh_ <= now; next_refresh_ += t_.refi) {
    if (!spec_.per_bank_refresh) {
      all(next_refresh_);
      continue;
    }
    one(next_refresh_, refresh_bank_);
    refresh_bank_ = (refresh_bank_ + 1) % banks;
  }
}

bool PseudoChannel::step(Completion& done) {
  ++steps_;
  const Cycle now = next_;
  if (counts_[0] + counts_[1] == 0) {
    catch_up_refreshes(now);
    next_row_ = next_column_ = 0;
  }
  if (!arrivals_.empty() && arrivals_.front().at <= now) admit(now);
  if (next_refresh_ <= now) refresh_due(now);
  choose_mode();
  if (next_row_ <= now) next_row_ = issue_row(now);
  const bool served = next_column_ <= now && issue_column(now, done);

  next_ = kNever;
  if (counts_[0] + counts_[1] != 0) next_ = std::min(std::min(next_row_, next_column_), next_refresh_);
  if (!arrivals_.empty() && !full(arrivals_.front().write)) next_ = std::min(next_, arrivals_.front().at);
  if (next_ != kNever) next_ = std::max(next_, now + 1);
  return served;
}

}  // namespace tessera::sim
