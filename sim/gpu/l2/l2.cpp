#include "sim/gpu/l2/l2.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "sim/core/statistics.hpp"

namespace tessera::sim {

namespace {

// Two thirds of an unloaded hit are the crossbar, there and back; the rest is the slice.
constexpr double kTransitShare = 1.0 / 3.0;

/// Sectors of a run that bytes [first, last] of it lie in.
std::uint8_t sector_mask(std::uint64_t first, std::uint64_t last) {
  const auto from = static_cast<unsigned>(first / kSectorBytes),
             to = static_cast<unsigned>(last / kSectorBytes);
  return static_cast<std::uint8_t>((0xffU << from) & (0xffU >> (7 - to)));
}

unsigned count(unsigned sectors) {
  // Population count of four bits each by a packed table: without -mpopcnt the intrinsic is a library call.
  constexpr std::uint64_t kCounts = 0x4332322132212110ULL;
  return static_cast<unsigned>((kCounts >> ((sectors & 0xfU) * 4U) & 0xfU) +
                               (kCounts >> ((sectors >> 4U) * 4U) & 0xfU));
}

unsigned lines_of(std::uint8_t sectors) {
  return ((sectors & 0xfU) != 0 ? 1U : 0U) + ((sectors >> 4U) != 0 ? 1U : 0U);
}

std::uint8_t sectors_of_line(std::uint8_t sectors, unsigned line) {
  return static_cast<std::uint8_t>(sectors >> 4 * line & 0xfU);
}

}  // namespace

L2::L2(sc_core::sc_module_name name, const GpuSpec& gpu)
    : EventModule{name},
      gpu_{gpu},
      slices_{static_cast<std::uint32_t>(gpu.l2.slices)},
      sets_per_slice_{static_cast<std::uint32_t>(gpu.l2.bytes / static_cast<std::int64_t>(kLineBytes) /
                                                 TagSet::kWays / gpu.l2.slices)},
      slice_share_{((std::uint64_t{1} << 32U) + sets_per_slice_ - 1) / std::max(1U, sets_per_slice_)},
      map_{slices_ * sets_per_slice_},
      sets_(std::size_t{slices_} * sets_per_slice_),
      slice_free_(slices_),
      gpc_return_(gpu.gpc_sms.size()),
      gpc_request_(gpu.gpc_sms.size()),
      underway_(gpu.gpc_sms.size() * kUnderway),
      miss_of_way_(sets_.size()) {
  if (gpu.l2.ways != static_cast<int>(TagSet::kWays))
    throw std::invalid_argument{"l2.ways: only 16 is supported"};
  if (sets_per_slice_ == 0)
    throw std::invalid_argument{"l2.bytes: less than a set of 16 lines for each slice"};
  const Clock l2_clock = Clock::mhz(gpu.l2.clock_mhz);
  const Clock sm_clock = Clock::mhz(gpu.boost_clock_mhz);
  look_up_ = l2_clock.cycles(1);
  line_interval_ = sm_clock.cycles_f(1.0 / gpu.sm.tma_lines_per_cycle);
  access_ = sm_clock.cycles_f(gpu.l2.hit_latency * (1 - 2 * kTransitShare));
  transit_ = sm_clock.cycles_f(gpu.l2.hit_latency * kTransitShare);
  far_ = sm_clock.cycles_f(gpu.l2.far_latency);
  const auto sector_time = [&](double bytes_per_cycle) {
    return l2_clock.cycles_f(static_cast<double>(kSectorBytes) / bytes_per_cycle);
  };
  gpc_write_sector_ = sector_time(gpu.l2.gpc_write_bytes_per_cycle);
  gpc_sector_ = sector_time(gpu.l2.gpc_bytes_per_cycle);
  sector_service_ = sector_time(gpu.l2.slice_bytes_per_cycle);
  link_sector_ = sector_time(gpu.l2.partition_link_bytes_per_cycle);
  most_writebacks_ = static_cast<std::uint32_t>(gpu.hbm.stacks * gpu.hbm.channels_per_stack *
                                                gpu.hbm.pseudo_channels * gpu.hbm.write_queue);
  next_run_ = map_.place(1);
  to_gpcs.resize(gpu.gpc_sms.size());
}

void L2::install(std::uint64_t address, std::uint64_t bytes, bool dirty) {
  // Of more than the cache holds the last part stays.
  const std::uint64_t last = (address + bytes - 1) / kLineBytes, capacity = sets_.size() * TagSet::kWays;
  for (std::uint64_t line = std::max(address / kLineBytes, last - std::min(last, capacity - 1)); line <= last;
       ++line) {
    const SetMap::Place place = map_.place(line / 2);
    TagSet& set = sets_[place.set];
    const std::uint32_t tag = place.tag(line % 2);
    unsigned way = set.find(tag);
    if (way == TagSet::kNoWay) {
      way = set.victim();
      set.replace(way, tag);
    }
    set.add_valid(way, 0xf);
    if (dirty) set.add_dirty(way, 0xf);
    set.touch(way);
  }
}

template <class Pool>
std::uint32_t L2::take_free(Pool& pool, std::uint32_t& first_free) {
  const std::uint32_t index = first_free;
  if (index != kNone) {
    first_free = pool[index].next;
    return index;
  }
  pool.emplace_back();
  return static_cast<std::uint32_t>(pool.size() - 1);
}

void L2::handle(Time now, const L2Event& event) {
  switch (event.kind) {
    case L2Event::Kind::read:
    case L2Event::Kind::write:
      accept(now, event);
      break;
    case L2Event::Kind::chunk:
      serve(now, event.tag);
      break;
    case L2Event::Kind::fill:
      fill(now, event.tag);
      break;
    case L2Event::Kind::written:
      --writebacks_;
      while (!stalled_.empty() && writebacks_ < most_writebacks_) {
        const std::uint32_t box = stalled_.front();
        stalled_.pop_front();
        serve(now, box);
      }
      break;
    case L2Event::Kind::atomic:
      ++counters_.atomics;
      to_gpcs[event.from.gpc].send_at(
          now, now + access_ + to_gpcs[event.from.gpc].latency(),
          GpcEvent{.kind = GpcEvent::Kind::fetched, .to = event.from, .value = tile_counter_++});
      break;
    case L2Event::Kind::start_kernel:
      tile_counter_ = event.tag;
      marked_.emplace_back();
      break;
    case L2Event::Kind::warm:
      warming_ = event.tag != 0;
      break;
    case L2Event::Kind::hold:
      to_hbm.send(now, HbmEvent{.kind = HbmEvent::Kind::hold,
                                .run = static_cast<std::uint32_t>(event.box.address),
                                .tag = event.tag});
      break;
    case L2Event::Kind::sample_energy: {
      const auto bytes = [](std::uint64_t sectors) { return static_cast<double>(sectors * kSectorBytes); };
      const double read = bytes(counters_.fill_sectors - sampled_.fill_sectors);
      const double moved = read + bytes(counters_.writeback_sectors - sampled_.writeback_sectors);
      if (event.tag != 0) {
        L2Counters since = counters_;
        L2Counters::zip(since, sampled_, [](const char*, auto& a, auto b) { a -= b; });
        L2Counters::zip(marked_.back(), since, [](const char*, auto& a, auto b) { a += b; });
      }
      sampled_ = counters_;
      to_front_end.send(now, FrontEndEvent{.kind = FrontEndEvent::Kind::energy,
                                           .from_l2 = true,
                                           .energy_pj = moved * gpu_.power.hbm_pj_per_byte,
                                           .activity = moved,
                                           .loads = read});
      break;
    }
  }
}

void L2::look_over(const Arrival* arrivals, std::size_t count) {
  if (misses_underway_ < kManyMisses) return;
  // Which miss a fill belongs to is known once it has been sent; where its data goes, once that miss is at
  // hand.
  for (std::size_t i = 0; i < count; ++i) {
    if (arrivals[i].event.kind == L2Event::Kind::fill) __builtin_prefetch(&misses_[arrivals[i].event.tag], 1);
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (arrivals[i].event.kind != L2Event::Kind::fill) continue;
    const Miss& miss = misses_[arrivals[i].event.tag];
    __builtin_prefetch(&sets_[miss.set], 1);
    __builtin_prefetch(&progress_[miss.here[0] / 2], 1);
  }
}

void L2::accept(Time now, const L2Event& event) {
  std::uint32_t index;
  if (free_boxes_.empty()) {
    index = static_cast<std::uint32_t>(boxes_.size());
    boxes_.emplace_back();
    progress_.emplace_back();
  } else {
    index = free_boxes_.back();
    free_boxes_.pop_back();
  }
  const tile::Box& b = event.box;
  const std::uint64_t last = b.address + (b.rows - 1) * b.pitch + b.row_bytes;
  if (last / kRunBytes / sets_.size() >= TagSet::kTags / 2) {
    throw std::invalid_argument{
        fmt::format("l2.bytes: a cache of {} lines is too small for {} bytes of memory",
                    sets_.size() * TagSet::kWays, last)};
  }
  boxes_[index] = BoxState{.event = event,
                           .offset = static_cast<std::uint32_t>(b.address % kRunBytes),
                           .place = map_.place(b.address / kRunBytes),
                           .step = map_.place(b.pitch / kRunBytes)};
  progress_[index] = BoxProgress{.gpc = event.from.gpc};
  (event.kind == L2Event::Kind::read ? counters_.read_bytes : counters_.write_bytes) += b.bytes();
  serve(now, index);
}

unsigned L2::take_segments(BoxState& box, Segment* segments) const {
  const tile::Box& b = box.event.box;
  const auto pitch_in_run = static_cast<std::uint32_t>(b.pitch % kRunBytes);
  unsigned n = 0;
  if (pitch_in_run == 0 && box.offset + b.row_bytes <= kRunBytes) {  // each row is the same part of one run
    const std::uint8_t sectors = sector_mask(box.offset, box.offset + b.row_bytes - 1);
    const unsigned rows = std::min(kChunkRuns, b.rows - box.row);
    SetMap::Place place = box.place;
    for (; n < rows; ++n) {
      segments[n] = Segment{place, sectors};
      __builtin_prefetch(&sets_[place.set]);
      place = map_.sum(place, box.step);
    }
    box.place = place;
    box.row += rows;
    return n;
  }
  while (n < kChunkRuns && box.row < b.rows) {
    // The row covers bytes [offset, offset + row_bytes) from the start of its first run.
    SetMap::Place place = box.place;
    std::uint32_t at = box.done_in_row;
    if (at != 0) place = map_.sum(place, map_.place((box.offset + at) / kRunBytes));
    while (n < kChunkRuns && at < b.row_bytes) {
      const std::uint32_t start = (box.offset + at) % kRunBytes;
      const std::uint32_t length = std::min(static_cast<std::uint32_t>(kRunBytes) - start, b.row_bytes - at);
      segments[n++] = Segment{place, sector_mask(start, start + length - 1)};
      __builtin_prefetch(&sets_[place.set]);
      at += length;
      if (at < b.row_bytes) place = map_.sum(place, next_run_);
    }
    if (at < b.row_bytes) {
      box.done_in_row = at;
      break;
    }
    box.done_in_row = 0;
    ++box.row;
    box.place = map_.sum(box.place, box.step);
    box.offset += pitch_in_run;
    if (box.offset >= kRunBytes) {
      box.offset -= static_cast<std::uint32_t>(kRunBytes);
      box.place = map_.sum(box.place, next_run_);
    }
  }
  return n;
}

void L2::serve(Time now, std::uint32_t index) {
  BoxState& box = boxes_[index];
  BoxProgress& progress = progress_[index];
  const bool read = box.event.kind == L2Event::Kind::read;
  if (!read && writebacks_ >= most_writebacks_) {
    stalled_.push_back(index);
    return;
  }
  const unsigned gpc = box.event.from.gpc;
  const unsigned partition =
      gpc * static_cast<unsigned>(gpu_.l2.partitions) / static_cast<unsigned>(gpu_.gpc_sms.size());
  const std::uint32_t slices_per_partition = slices_ / static_cast<std::uint32_t>(gpu_.l2.partitions);
  const std::uint32_t near_slice = partition * slices_per_partition;  // the first of the near partition

  // The segments first, so that the host fetches their tag sets while the loops below work through them.
  Segment segments[kChunkRuns];
  const unsigned n = take_segments(box, segments);

  if (read && misses_underway_ >= kManyMisses) {
    // The same for misses in flight that the segments will join.
    const std::uint32_t* joined[kChunkRuns];
    unsigned joins = 0;
    for (unsigned i = 0; i < n; ++i) {
      const Segment& s = segments[i];
      const TagSet& set = sets_[s.place.set];
      const unsigned way = set.find(s.place.tag((s.sectors & 0xfU) != 0 ? 0 : 1));
      if (way == TagSet::kNoWay || !set.pending(way)) continue;
      joined[joins] = &miss_of_way_[s.place.set][way];
      __builtin_prefetch(joined[joins++]);
    }
    for (unsigned i = 0; i < joins; ++i) __builtin_prefetch(&misses_[*joined[i]], 1);
  }

  Time at = now;
  unsigned far = 0, far_sectors = 0, sectors_asked = 0;
  Hits hits;
  Underway* const underway = &underway_[std::size_t{gpc} * kUnderway];
  unsigned coalesced = 0;
  for (unsigned i = 0; i < n;) {
    // Neighbours mostly cover the same sectors of their runs: what follows from those is worked out once.
    const std::uint8_t sectors = segments[i].sectors;
    const unsigned lines = lines_of(sectors), line = (sectors & 0xfU) != 0 ? 0 : 1;
    const unsigned need = sectors_of_line(sectors, line);
    const Time service = service_of(sectors), interval = line_interval_ * lines;
    const unsigned first = i;
    unsigned far_segments = 0, whole_hits = 0;
    for (; i < n && segments[i].sectors == sectors; ++i) {
      const Segment& segment = segments[i];
      Underway& way_out = underway[segment.place.set * 0x9e3779b9U >> (32 - kUnderwayBits)];
      const std::uint32_t asked = segment.place.set * 16 + need;
      if (read && lines == 1 && way_out.tag == segment.place.tag(line) && way_out.ready > at &&
          (way_out.set_and_sectors & ~(0xfU ^ need)) == asked) {
        hits.sectors += count(sectors);
        hits.last_ready = max(hits.last_ready, way_out.ready);
        ++coalesced;
        at += interval;
        continue;
      }
      const std::uint32_t slice = slice_of(segment.place.set);
      Time& free = slice_free_[slice];
      free = max(free, at) + service;
      at += interval;
      Time ready = free + access_;
      if (slice - near_slice >= slices_per_partition) {
        ready += far_;
        ++far_segments;
      }
      if (!read) {
        write_run(free, segment);
        continue;
      }
      if (lines == 1) {
        TagSet& set = sets_[segment.place.set];
        const unsigned way = set.find(segment.place.tag(line));
        if (way != TagSet::kNoWay && (set.valid(way) & need) == need) {
          set.touch(way);
          ++whole_hits;
          way_out = Underway{asked, segment.place.tag(line), ready};
          hits.first_ready = min(hits.first_ready, ready);
          hits.last_ready = max(hits.last_ready, ready);
          continue;
        }
      }
      read_segment(index, segment, free, ready, hits);
    }
    far += lines * far_segments;
    far_sectors += count(sectors) * far_segments;
    sectors_asked += count(sectors) * (i - first);
    hits.sectors += count(sectors) * whole_hits;
    hits.leaving += count(sectors) * whole_hits;
  }

  if (coalesced != 0) {
    counters_.coalesced_lines += coalesced;
    progress.ready = max(progress.ready, hits.last_ready);
  }
  counters_.far_lines += far;
  if (far != 0) {
    const Time through = link_[partition & 1U].reserve(now, link_sector_ * far_sectors);
    if (hits.leaving != 0) hits.last_ready = max(hits.last_ready, through + access_ + far_);
  }
  if (read) {
    counters_.read_sectors += sectors_asked;
    counters_.hit_sectors += hits.sectors;
    if (hits.leaving != 0) {
      // Booked now, not at first_ready: bookings of hits and of fills must come in time order, or the gaps
      // between them would be lost to the port.
      const Time out = gpc_return_[gpc].reserve(now, gpc_sector_ * hits.leaving) + (hits.first_ready - now);
      progress.ready = max(progress.ready, max(out, hits.last_ready));
    }
  } else {
    gpc_request_[gpc].reserve(now, gpc_write_sector_ * sectors_asked);
  }
  if (box.row < box.event.box.rows) {
    schedule(max(at, read ? at : gpc_request_[gpc].free_at()),
             L2Event{.kind = L2Event::Kind::chunk, .tag = index});
    return;
  }
  progress.issued = true;
  if (read)
    finish_if_complete(now, index);
  else
    finish_write(now, index);
}

Time L2::service_of(std::uint8_t sectors) const {
  Time service;
  for (unsigned line = 0; line < 2; ++line) {
    const unsigned asked = count(sectors_of_line(sectors, line));
    if (asked != 0) service += max(look_up_, sector_service_ * asked);
  }
  return service;
}

void L2::finish_write(Time now, std::uint32_t index) {
  const Requester& from = boxes_[index].event.from;
  Outlet<GpcEvent>& to = to_gpcs[from.gpc];
  to.send_at(now, max(now, gpc_request_[from.gpc].free_at()) + to.latency(),
             GpcEvent{.kind = GpcEvent::Kind::stored, .to = from});
  free_boxes_.push_back(index);
}

void L2::read_segment(std::uint32_t box, const Segment& segment, Time served, Time ready, Hits& hits) {
  TagSet& set = sets_[segment.place.set];
  unsigned missing = segment.sectors;
  for (unsigned line = 0; line < 2; ++line) {
    if (sectors_of_line(segment.sectors, line) == 0) continue;
    const unsigned way = set.find(segment.place.tag(line));
    if (way == TagSet::kNoWay) continue;
    set.touch(way);
    missing &= ~(set.valid(way) << 4 * line);
  }
  hits.sectors += count(segment.sectors) - count(missing);
  if (missing != 0 && !(warming_ && warm(served, segment))) {
    read_run(served, box, segment, static_cast<std::uint8_t>(missing), ready);
    return;
  }
  hits.leaving += count(segment.sectors);
  hits.first_ready = min(hits.first_ready, ready);
  hits.last_ready = max(hits.last_ready, ready);
}

void L2::send_to_hbm(Time at, HbmEvent::Kind kind, std::uint64_t run, std::uint8_t sectors,
                     std::uint32_t tag) {
  (kind == HbmEvent::Kind::read ? counters_.fill_sectors : counters_.writeback_sectors) += count(sectors);
  if (kind == HbmEvent::Kind::write) ++writebacks_;
  to_hbm.send_at(
      at, at + to_hbm.latency(),
      HbmEvent{.kind = kind, .sectors = sectors, .run = static_cast<std::uint32_t>(run), .tag = tag});
}

std::uint32_t L2::find_miss(const SetMap::Place& place) const {
  const TagSet& set = sets_[place.set];
  if (set.any_pending()) {
    for (unsigned line = 0; line < 2; ++line) {
      if (const unsigned way = set.find(place.tag(line)); way != TagSet::kNoWay && set.pending(way))
        return miss_of_way_[place.set][way];
    }
  }
  std::uint32_t index = set.first_homeless;
  while (index != kNone && misses_[index].quotient != place.quotient) index = misses_[index].next;
  return index;
}

void L2::read_run(Time at, std::uint32_t box, const Segment& segment, std::uint8_t missing, Time ready) {
  const std::uint32_t set_index = segment.place.set, quotient = segment.place.quotient;
  TagSet& set = sets_[set_index];
  std::uint32_t index = find_miss(segment.place);
  const bool unknown = index == kNone;
  if (unknown) {
    index = take_free(misses_, free_miss_);
    ++misses_underway_;
    misses_[index].begin(set_index, quotient);
  }
  Miss& miss = misses_[index];
  counters_.merged_sectors += count(miss.sectors & missing);
  auto fetch = static_cast<std::uint8_t>(missing & ~miss.sectors);
  if (fetch != 0) {
    // The lines that the data will go to. Promotion adds whatever of the run is not here yet.
    const unsigned wanted = boxes_[box].event.from.promote ? 0xffU : fetch;
    unsigned valid = 0;
    for (unsigned line = 0; line < 2; ++line) {
      if (sectors_of_line(static_cast<std::uint8_t>(wanted), line) == 0) continue;
      unsigned way = set.find(segment.place.tag(line));
      if (way == TagSet::kNoWay) {
        way = allocate(at, set_index, segment.place.tag(line));
      } else {
        valid |= set.valid(way) << 4 * line;
      }
      miss.way[line] = static_cast<std::uint8_t>(way);
      if (way == TagSet::kNoWay) continue;
      set.set_pending(way, true);
      set.touch(way);
      miss_of_way_[set_index][way] = index;
    }
    fetch = static_cast<std::uint8_t>(wanted & ~valid & ~unsigned{miss.sectors});
    miss.sectors = static_cast<std::uint8_t>(miss.sectors | fetch);
    ++miss.fills;
    send_to_hbm(at, HbmEvent::Kind::read, map_.run(set_index, quotient * 2), fetch, index);
  }
  if (unknown && miss.way[0] == TagSet::kNoWay && miss.way[1] == TagSet::kNoWay) {
    miss.homeless = true;
    miss.next = std::exchange(set.first_homeless, index);
  }
  const unsigned sectors = count(segment.sectors);
  if (miss.waiting_here < kWaitersHere) {
    miss.here[miss.waiting_here++] = box * 8 + sectors - 1;
  } else {
    const std::uint32_t w = take_free(waiters_, free_waiter_);
    waiters_[w] = Waiter{box, sectors, miss.waiters};
    miss.waiters = w;
  }
  ++progress_[box].missing;
  progress_[box].ready = max(progress_[box].ready, ready);
}

bool L2::warm(Time at, const Segment& segment) {
  TagSet& set = sets_[segment.place.set];
  if (set.any_pending() || set.first_homeless != kNone) return false;
  for (unsigned line = 0; line < 2; ++line) {
    const std::uint8_t sectors = sectors_of_line(segment.sectors, line);
    if (sectors == 0) continue;
    unsigned way = set.find(segment.place.tag(line));
    if (way == TagSet::kNoWay) way = allocate(at, segment.place.set, segment.place.tag(line));
    if (way == TagSet::kNoWay) return false;
    set.add_valid(way, sectors);
    set.touch(way);
  }
  return true;
}

void L2::write_run(Time at, const Segment& segment) {
  TagSet& set = sets_[segment.place.set];
  unsigned through = 0;  // sectors for which there is no room: every way is in flight
  for (unsigned line = 0; line < 2; ++line) {
    const std::uint8_t sectors = sectors_of_line(segment.sectors, line);
    if (sectors == 0) continue;
    const std::uint32_t tag = segment.place.tag(line);
    unsigned way = set.find(tag);
    if (way == TagSet::kNoWay) way = allocate(at, segment.place.set, tag);
    if (way == TagSet::kNoWay) {
      through |= unsigned{sectors} << 4 * line;
      continue;
    }
    set.add_valid(way, sectors);
    set.add_dirty(way, sectors);
    set.touch(way);
  }
  counters_.write_sectors += count(segment.sectors);
  if (through != 0) {
    send_to_hbm(at, HbmEvent::Kind::write, map_.run(segment.place.set, segment.place.tag(0)),
                static_cast<std::uint8_t>(through), 0);
  }
}

unsigned L2::allocate(Time at, std::uint32_t set_index, std::uint32_t tag) {
  TagSet& set = sets_[set_index];
  const unsigned way = set.victim();
  if (way == TagSet::kNoWay) return way;
  if (set.dirty(way) != 0) {
    const std::uint32_t old = set.tag(way);
    unsigned sectors = set.dirty(way) << 4 * (old & 1U);
    if (const unsigned other = set.find(old ^ 1U); other != TagSet::kNoWay) {
      sectors |= set.dirty(other) << 4 * (~old & 1U);
      set.clean(other);
    }
    send_to_hbm(at, HbmEvent::Kind::write, map_.run(set_index, old), static_cast<std::uint8_t>(sectors), 0);
  }
  set.replace(way, tag);
  return way;
}

void L2::fill(Time now, std::uint32_t index) {
  Miss& miss = misses_[index];
  if (--miss.fills != 0) return;
  TagSet& set = sets_[miss.set];
  for (unsigned line = 0; line < 2; ++line) {
    const unsigned way = miss.way[line];
    if (way == TagSet::kNoWay) continue;
    set.add_valid(way, sectors_of_line(miss.sectors, line));
    set.set_pending(way, false);
  }
  if (miss.homeless) {
    std::uint32_t* link = &set.first_homeless;
    while (*link != index) link = &misses_[*link].next;
    *link = miss.next;
  }
  --misses_underway_;
  miss.next = free_miss_;
  free_miss_ = index;
  for (unsigned i = 0; i < miss.waiting_here; ++i) arrive(now, miss.here[i] / 8, miss.here[i] % 8 + 1);
  for (std::uint32_t w = miss.waiters; w != kNone;) {
    const Waiter waiter = waiters_[w];
    waiters_[w].next = free_waiter_;
    free_waiter_ = w;
    w = waiter.next;
    arrive(now, waiter.box, waiter.sectors);
  }
}

void L2::arrive(Time now, std::uint32_t index, std::uint32_t sectors) {
  BoxProgress& box = progress_[index];
  box.ready = max(box.ready, gpc_return_[box.gpc].reserve(now, gpc_sector_ * sectors));
  --box.missing;
  finish_if_complete(now, index);
}

void L2::finish_if_complete(Time now, std::uint32_t index) {
  const BoxProgress& box = progress_[index];
  if (!box.issued || box.missing != 0) return;
  const L2Event& e = boxes_[index].event;
  Outlet<GpcEvent>& to = to_gpcs[e.from.gpc];
  const auto bytes = static_cast<std::uint32_t>(e.box.bytes());
  counters_.returned_bytes += bytes;
  to.send_at(now, max(now, box.ready) + to.latency(),
             GpcEvent{.kind = GpcEvent::Kind::loaded, .to = e.from, .bytes = bytes});
  free_boxes_.push_back(index);
}

void L2::describe_stuck(std::vector<std::string>& out) const {
  const std::size_t live = boxes_.size() - free_boxes_.size();
  if (live != 0) {
    out.push_back(fmt::format("{}: {} requests wait for HBM fills, {} for write-backs", name(),
                              live - stalled_.size(), stalled_.size()));
  }
}

void L2::report(Statistics& statistics) const {
  L2Counters::zip(counters_, counters_, [&](const char* what, std::uint64_t n, std::uint64_t) {
    statistics.add(fmt::format("l2.{}", what), static_cast<double>(n));
  });
}

}  // namespace tessera::sim
