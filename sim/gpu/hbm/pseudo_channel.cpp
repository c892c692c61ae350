#include "sim/gpu/hbm/pseudo_channel.hpp"

#include <bit>
#include <cmath>
#include <stdexcept>

namespace tessera::sim {

namespace {

template <class Visit>
void for_each_bit(std::uint64_t mask, Visit visit) {
  for (; mask != 0; mask &= mask - 1) visit(static_cast<std::uint32_t>(std::countr_zero(mask)));
}

}  // namespace

HbmTimings::HbmTimings(const HbmSpec& s) {
  const auto cycles = [&](int n) { return Time::from_ns(s.tck_ns * n); };
  // Command times lie on the command clock: nanosecond limits round up to whole cycles.
  const auto ns = [&](double limit) { return cycles(static_cast<int>(std::ceil(limit / s.tck_ns - 1e-9))); };
  ck = cycles(1);
  burst = cycles(s.nbl_ck);
  ccd_s = cycles(s.nccd_s_ck);
  ccd_l = cycles(s.nccd_l_ck);
  ccd_r = cycles(s.nccd_r_ck);
  rrd_s = cycles(s.nrrd_s_ck);
  rrd_l = cycles(s.nrrd_l_ck);
  rtp = cycles(s.nrtp_ck);
  rtw = cycles(s.nrtw_ck);
  cl = ns(s.tcl_ns);
  cwl = ns(s.tcwl_ns);
  wtr = cwl + burst + cycles(s.nwtr_l_ck);  // write command to read command
  rcd_rd = ns(s.trcd_rd_ns);
  rcd_wr = ns(s.trcd_wr_ns);
  rp = ns(s.trp_ns);
  ras = ns(s.tras_ns);
  rc = ns(s.trc_ns);
  wr = cwl + burst + ns(s.twr_ns);  // write command to precharge
  faw = ns(s.tfaw_ns);
  rfc = s.per_bank_refresh ? ns(s.trfc_pb_ns) : ns(s.trfc_ab_ns);
  const int banks = s.stack_ids * s.bank_groups * s.banks_per_group;
  refresh_interval = Time::from_ns(s.per_bank_refresh ? s.trefi_ns / banks : s.trefi_ns);
}

PseudoChannel::PseudoChannel(const HbmSpec& spec, const HbmTimings& timings)
    : spec_{spec},
      t_{timings},
      pairs_per_stack_id_{static_cast<std::uint32_t>(spec.bank_groups * spec.banks_per_group / 2)},
      pairs_(pairs_per_stack_id_ * static_cast<std::uint32_t>(spec.stack_ids)),
      next_refresh_{timings.refresh_interval} {
  if (pairs_.size() > 64) throw std::invalid_argument{"hbm: more than 128 banks per pseudo-channel"};
  entries_.reserve(static_cast<std::size_t>(spec.read_queue + spec.write_queue));
}

void PseudoChannel::push(Time now, const Request& request) {
  std::uint32_t e = free_entry_;
  if (e != kNone) {
    free_entry_ = entries_[e].next;
  } else {
    e = static_cast<std::uint32_t>(entries_.size());
    entries_.emplace_back();
  }
  entries_[e] = Queued{request, next_order_++, kNone};
  Pair& pair = pairs_[request.pair];
  const bool w = request.write;
  if (pair.head[w] == kNone)
    pair.head[w] = e;
  else
    entries_[pair.tail[w]].next = e;
  pair.tail[w] = e;
  ++counts_[w];
  const PairMask bit = PairMask{1} << request.pair;
  waiting_[w] |= bit;
  if (pair.row == request.row) {
    ++pair.hits[w];
    hit_[w] |= bit;
  }
  const Time earliest = any_column_ ? max(now, last_column_ - t_.rcd_rd) : now;
  next_step_ = min(next_step_, earliest);
}

std::uint32_t PseudoChannel::oldest_hit(const Pair& pair, bool write) const {
  for (std::uint32_t e = pair.head[write]; e != kNone; e = entries_[e].next) {
    if (entries_[e].request.row == pair.row) return e;
  }
  return kNone;
}

void PseudoChannel::unlink(Pair& pair, bool write, std::uint32_t entry) {
  std::uint32_t* link = &pair.head[write];
  std::uint32_t previous = kNone;
  while (*link != entry) {
    previous = *link;
    link = &entries_[previous].next;
  }
  *link = entries_[entry].next;
  if (pair.tail[write] == entry) pair.tail[write] = previous;
  if (pair.head[write] == kNone) waiting_[write] &= ~(PairMask{1} << (&pair - pairs_.data()));
  entries_[entry].next = free_entry_;
  free_entry_ = entry;
  --counts_[write];
}

Time PseudoChannel::precharge(Time now, std::uint32_t index) {
  Pair& pair = pairs_[index];
  const Time at = max(now, pair.precharge_ok);
  note(HbmCommand::Kind::precharge, at, index, 0, pair.row);
  note(HbmCommand::Kind::precharge, at, index, 1, pair.row);
  counters_.precharges += 2;
  pair.activate_ok = max(pair.activate_ok, at + t_.rp);
  pair.row = kClosed;
  pair.hits = {0, 0};
  const PairMask bit = PairMask{1} << index;
  open_ &= ~bit;
  hit_[0] &= ~bit;
  hit_[1] &= ~bit;
  return at + t_.rp;
}

void PseudoChannel::activate(Time now, std::uint32_t index, std::uint32_t row) {
  Pair& pair = pairs_[index];
  Time at = max(now, activate_time(index));
  for (unsigned half = 0; half < 2; ++half) {
    if (half == 1) {
      at += t_.rrd_s;
      if (activate_count_ >= 4) at = max(at, activates_[activate_index_] + t_.faw);
    }
    activates_[activate_index_] = at;
    activate_index_ = (activate_index_ + 1) % 4;
    ++activate_count_;
    ++counters_.activates;
    note(HbmCommand::Kind::activate, at, index, half, row);
  }
  last_activate_ = at;
  last_activate_group_ = group_of(index, 1);
  pair.activated = at;
  pair.activate_ok = at + t_.rc;
  pair.precharge_ok = at + t_.ras;
  pair.row = row;
  pair.streak = 0;
  const PairMask bit = PairMask{1} << index;
  open_ |= bit;
  for (unsigned w = 0; w < 2; ++w) {
    pair.hits[w] = 0;
    for (std::uint32_t e = pair.head[w]; e != kNone; e = entries_[e].next) {
      if (entries_[e].request.row == row) ++pair.hits[w];
    }
    if (pair.hits[w] != 0) hit_[w] |= bit;
  }
}

Time PseudoChannel::activate_time(std::uint32_t index) const {
  Time at = pairs_[index].activate_ok;
  if (activate_count_ > 0) {
    at = max(at, last_activate_ + (group_of(index, 0) == last_activate_group_ ? t_.rrd_l : t_.rrd_s));
    if (activate_count_ >= 4) at = max(at, activates_[activate_index_] + t_.faw);
  }
  return at;
}

void PseudoChannel::refresh_due(Time now) {
  while (next_refresh_ <= now) {
    const auto refresh = [&](std::uint32_t index, unsigned half) {
      Pair& pair = pairs_[index];
      Time at = max(next_refresh_, pair.activate_ok);
      if (pair.row != kClosed) at = max(at, precharge(next_refresh_, index));
      pair.activate_ok = at + t_.rfc;
      note(HbmCommand::Kind::refresh, at, index, half, 0);
      ++counters_.refreshes;
    };
    if (spec_.per_bank_refresh) {
      refresh(refresh_bank_ / 2, refresh_bank_ % 2);
      refresh_bank_ = (refresh_bank_ + 1) % static_cast<std::uint32_t>(2 * pairs_.size());
    } else {
      for (std::uint32_t p = 0; p < pairs_.size(); ++p) refresh(p, 0);
    }
    next_refresh_ += t_.refresh_interval;
  }
}

void PseudoChannel::choose_mode() {
  const int reads = counts_[0], writes = counts_[1];
  if (writing_)
    writing_ = writes > 0 && (reads == 0 || writes > spec_.write_drain_low);
  else
    writing_ = writes >= spec_.write_drain_high || (reads == 0 && writes > 0);
}

Time PseudoChannel::column_time(std::uint32_t index, unsigned sector, bool write) const {
  const Pair& pair = pairs_[index];
  const unsigned half = sector & 1U;
  Time at = pair.activated + (write ? t_.rcd_wr : t_.rcd_rd);
  if (any_column_) {
    Time gap = stack_id_of(index) == last_stack_id_ ? t_.ccd_s : max(t_.ccd_r, t_.ccd_s);
    if (write != last_was_write_) gap = write ? t_.rtw : t_.wtr;
    at = max(at, last_column_ + gap);
    const std::uint32_t group = group_of(index, half);
    if (group_used_[group] && write == last_was_write_) at = max(at, last_in_group_[group] + t_.ccd_l);
  }
  return at;
}

bool PseudoChannel::step(Time now, Completion& done) {
  next_step_ = Time::never();
  if (idle()) return false;
  refresh_due(now);
  choose_mode();
  const bool write = writing_;

  for_each_bit(open_ & waiting_[write] & ~hit_[write], [&](std::uint32_t p) { precharge(now, p); });
  // Rows are opened in the order in which they can be, at most a precharge and one line's transfer ahead of
  // now: booking one further ahead would hold up, through tRRD and tFAW, others that are ready sooner.
  const Time ahead = t_.rp + 4 * t_.burst;
  const Time horizon = now + ahead;
  const Time window = ahead + t_.rrd_s + t_.rcd_rd;  // columns of any row booked so can be booked at once
  Time next_open = Time::never();
  for (PairMask closed = waiting_[write] & ~open_; closed != 0;) {
    std::uint32_t earliest = kNone;
    Time earliest_at = Time::never();
    for_each_bit(closed, [&](std::uint32_t p) {
      const Time at = max(now, activate_time(p));
      if (at < earliest_at) {
        earliest_at = at;
        earliest = p;
      }
    });
    if (earliest_at > horizon) {
      next_open = earliest_at;
      break;
    }
    activate(now, earliest, entries_[pairs_[earliest].head[write]].request.row);
    closed &= ~(PairMask{1} << earliest);
  }

  std::uint32_t best = kNone, best_entry = kNone;
  Time best_at = Time::never();
  for_each_bit(hit_[write], [&](std::uint32_t p) {
    const std::uint32_t e = oldest_hit(pairs_[p], write);
    const auto first = static_cast<unsigned>(std::countr_zero(entries_[e].request.sectors));
    const Time at = max(now, column_time(p, first, write));
    if (at < best_at || (at == best_at && entries_[e].order < entries_[best_entry].order)) {
      best_at = at;
      best = p;
      best_entry = e;
    }
  });
  if (best_at > now + window) {
    next_step_ = min(best_at == Time::never() ? best_at : best_at - window,
                     next_open == Time::never() ? next_open : next_open - ahead);
    return false;
  }

  Pair& pair = pairs_[best];
  const Request request = entries_[best_entry].request;
  bool first = true;
  for (unsigned sector = 0; sector < 4; ++sector) {
    if ((request.sectors >> sector & 1U) == 0) continue;
    const Time at = first ? best_at : column_time(best, sector, write);
    first = false;
    const unsigned half = sector & 1U;
    const std::uint32_t group = group_of(best, half);
    last_column_ = at;
    any_column_ = true;
    last_was_write_ = write;
    last_stack_id_ = stack_id_of(best);
    last_in_group_[group] = at;
    group_used_[group] = true;
    pair.precharge_ok = max(pair.precharge_ok, at + (write ? t_.wr : t_.rtp));
    counters_.data_busy += t_.burst;
    (write ? counters_.write_bytes : counters_.read_bytes) += static_cast<std::uint64_t>(spec_.access_bytes);
    note(write ? HbmCommand::Kind::write : HbmCommand::Kind::read, at, best, half, request.row);
  }
  if (++pair.streak > 1) ++counters_.row_hits;
  ++(write ? counters_.writes : counters_.reads);
  if (--pair.hits[write] == 0) hit_[write] &= ~(PairMask{1} << best);
  unlink(pair, write, best_entry);
  const bool others_wait = pair.head[write] != kNone && entries_[pair.head[write]].request.row != pair.row;
  if (others_wait && (pair.hits[write] == 0 || pair.streak >= kHitCap)) precharge(now, best);

  done = Completion{last_column_ + (write ? t_.cwl : t_.cl) + t_.burst, request.tag, !write};
  if (!idle()) next_step_ = max(now, last_column_ - t_.rcd_rd);
  return true;
}

}  // namespace tessera::sim
