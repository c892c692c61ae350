#include "sim/gpu/hbm/pseudo_channel.hpp"

namespace tessera::sim {

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
  wr = cwl + burst + ns(s.twr_ns);          // write command to precharge
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
  if (pair.head[w] == kNone) pair.head[w] = e;
  else entries_[pair.tail[w]].next = e;
  pair.tail[w] = e;
  ++counts_[w];
  if (pair.row == request.row) ++pair.hits[w];
  else if (pair.hits[0] + pair.hits[1] == 0 && w == writing_) open_next(now, request.pair);
  const Time earliest = any_column_ ? max(now, last_column_ + t_.ccd_s) : now;
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
  entries_[entry].next = free_entry_;
  free_entry_ = entry;
  --counts_[write];
}

Time PseudoChannel::precharge(Time now, std::uint32_t index) {
  Pair& pair = pairs_[index];
  Time closed;
  for (unsigned half = 0; half < 2; ++half) {
    const Time at = max(now, pair.precharge_ok[half]);
    note(HbmCommand::Kind::precharge, at, index, half, pair.row);
    pair.activate_ok[half] = max(pair.activate_ok[half], at + t_.rp);
    closed = max(closed, at + t_.rp);
    ++counters_.precharges;
  }
  pair.row = kClosed;
  pair.hits = {0, 0};
  return closed;
}

void PseudoChannel::activate(Time now, std::uint32_t index, std::uint32_t row) {
  Pair& pair = pairs_[index];
  for (unsigned half = 0; half < 2; ++half) {
    const std::uint32_t group = group_of(index, half);
    Time at = max(now, pair.activate_ok[half]);
    if (activate_count_ > 0) {
      at = max(at, last_activate_ + (group == last_activate_group_ ? t_.rrd_l : t_.rrd_s));
      if (activate_count_ >= 4) at = max(at, activates_[activate_index_] + t_.faw);
    }
    activates_[activate_index_] = at;
    activate_index_ = (activate_index_ + 1) % 4;
    ++activate_count_;
    last_activate_ = at;
    last_activate_group_ = group;
    pair.activated[half] = at;
    pair.activate_ok[half] = at + t_.rc;
    pair.precharge_ok[half] = at + t_.ras;
    pair.column_ok_rd[half] = at + t_.rcd_rd;
    pair.column_ok_wr[half] = at + t_.rcd_wr;
    ++counters_.activates;
    note(HbmCommand::Kind::activate, at, index, half, row);
  }
  pair.row = row;
  pair.streak = 0;
  for (unsigned w = 0; w < 2; ++w) {
    pair.hits[w] = 0;
    for (std::uint32_t e = pair.head[w]; e != kNone; e = entries_[e].next) {
      if (entries_[e].request.row == row) ++pair.hits[w];
    }
  }
}

void PseudoChannel::open_next(Time now, std::uint32_t index) {
  Pair& pair = pairs_[index];
  const std::uint32_t first = pair.head[writing_];
  if (first == kNone) return;
  if (pair.row != kClosed) precharge(now, index);
  activate(now, index, entries_[first].request.row);
}

void PseudoChannel::refresh_due(Time now) {
  while (next_refresh_ <= now) {
    const auto refresh_pair = [&](std::uint32_t index, unsigned first_half, unsigned last_half) {
      Pair& pair = pairs_[index];
      Time start = next_refresh_;
      if (pair.row != kClosed) start = max(start, precharge(next_refresh_, index));
      for (unsigned half = first_half; half <= last_half; ++half) {
        const Time at = max(start, pair.activate_ok[half] );
        pair.activate_ok[half] = at + t_.rfc;
        note(HbmCommand::Kind::refresh, at, index, half, 0);
        ++counters_.refreshes;
      }
      open_next(now, index);
    };
    if (spec_.per_bank_refresh) {
      refresh_pair(refresh_bank_ / 2, refresh_bank_ % 2, refresh_bank_ % 2);
      refresh_bank_ = (refresh_bank_ + 1) % static_cast<std::uint32_t>(2 * pairs_.size());
    } else {
      for (std::uint32_t p = 0; p < pairs_.size(); ++p) refresh_pair(p, 0, 1);
    }
    next_refresh_ += t_.refresh_interval;
  }
}

void PseudoChannel::choose_mode() {
  const int reads = counts_[0], writes = counts_[1];
  const bool before = writing_;
  if (writing_) writing_ = writes > 0 && (reads == 0 || writes > spec_.write_drain_low);
  else writing_ = writes >= spec_.write_drain_high || (reads == 0 && writes > 0);
  if (writing_ == before) return;
  for (std::uint32_t p = 0; p < pairs_.size(); ++p) {
    Pair& pair = pairs_[p];
    if (pair.head[writing_] != kNone && pair.hits[writing_] == 0) {
      open_next(any_column_ ? last_column_ : Time{}, p);
    }
  }
}

Time PseudoChannel::column_time(std::uint32_t index, unsigned sector, bool write) const {
  const Pair& pair = pairs_[index];
  const unsigned half = sector & 1U;
  Time at = write ? pair.column_ok_wr[half] : pair.column_ok_rd[half];
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

  std::uint32_t best = kNone, best_entry = kNone;
  Time best_at = Time::never();
  for (std::uint32_t p = 0; p < pairs_.size(); ++p) {
    Pair& pair = pairs_[p];
    if (pair.head[write] == kNone) continue;
    if (pair.hits[write] == 0) open_next(now, p);
    const std::uint32_t e = oldest_hit(pair, write);
    const auto first = static_cast<unsigned>(std::countr_zero(entries_[e].request.sectors));
    const Time at = max(now, column_time(p, first, write));
    if (at < best_at || (at == best_at && entries_[e].order < entries_[best_entry].order)) {
      best_at = at;
      best = p;
      best_entry = e;
    }
  }
  if (best_at > now) {  // something better may arrive before then
    next_step_ = best_at;
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
    pair.precharge_ok[half] = max(pair.precharge_ok[half], at + (write ? t_.wr : t_.rtp));
    counters_.data_busy += t_.burst;
    (write ? counters_.write_bytes : counters_.read_bytes) += static_cast<std::uint64_t>(spec_.access_bytes);
    note(write ? HbmCommand::Kind::write : HbmCommand::Kind::read, at, best, half, request.row);
  }
  if (++pair.streak > 1) ++counters_.row_hits;
  ++(write ? counters_.writes : counters_.reads);
  --pair.hits[write];
  unlink(pair, write, best_entry);
  const bool others_wait = pair.head[write] != kNone && entries_[pair.head[write]].request.row != pair.row;
  if (others_wait && (pair.hits[write] == 0 || pair.streak >= kHitCap)) open_next(last_column_, best);

  done = Completion{last_column_ + (write ? t_.cwl : t_.cl) + t_.burst, request.tag, !write};
  if (!idle()) next_step_ = last_column_ + t_.ccd_s;
  return true;
}

}  // namespace tessera::sim
