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

std::uint8_t sector_mask(std::uint64_t first_byte, std::uint64_t last_byte) {
  const auto first = static_cast<unsigned>(first_byte / kSectorBytes);
  const auto last = static_cast<unsigned>(last_byte / kSectorBytes);
  return static_cast<std::uint8_t>((0xfU << first) & (0xfU >> (3 - last)) & 0xfU);
}

unsigned count(std::uint8_t sectors) {
  // Population count of four bits by a packed table: without -mpopcnt the intrinsic is a library call.
  return static_cast<unsigned>(0x4332322132212110ULL >> (sectors * 4U) & 0xfU);
}

}  // namespace

L2::L2(sc_core::sc_module_name name, const GpuSpec& gpu)
    : EventModule{name},
      gpu_{gpu},
      slices_{static_cast<std::uint32_t>(gpu.l2.slices)},
      sets_per_slice_{static_cast<std::uint32_t>(gpu.l2.bytes / static_cast<std::int64_t>(kLineBytes) /
                                                 TagStore::kWays / gpu.l2.slices)},
      tags_{slices_ * sets_per_slice_},
      miss_of_slot_(std::size_t{slices_} * sets_per_slice_ * TagStore::kWays, kNone),
      slice_free_(slices_),
      gpc_return_(gpu.gpc_sms.size()),
      gpc_request_(gpu.gpc_sms.size()) {
  if (gpu.l2.ways != static_cast<int>(TagStore::kWays))
    throw std::invalid_argument{"l2.ways: only 16 is supported"};
  const Clock l2_clock = Clock::mhz(gpu.l2.clock_mhz);
  const Clock sm_clock = Clock::mhz(gpu.boost_clock_mhz);
  sector_service_ = l2_clock.cycles_f(static_cast<double>(kSectorBytes) / gpu.l2.slice_bytes_per_cycle);
  line_interval_ = sm_clock.cycles_f(1.0 / gpu.sm.tma_lines_per_cycle);
  access_ = sm_clock.cycles_f(gpu.l2.hit_latency * (1 - 2 * kTransitShare));
  transit_ = sm_clock.cycles_f(gpu.l2.hit_latency * kTransitShare);
  far_ = sm_clock.cycles_f(gpu.l2.far_latency);
  gpc_line_ = l2_clock.cycles_f(static_cast<double>(kLineBytes) / gpu.l2.gpc_bytes_per_cycle);
  link_line_ = l2_clock.cycles_f(static_cast<double>(kLineBytes) / gpu.l2.partition_link_bytes_per_cycle);
  to_gpcs.resize(gpu.gpc_sms.size());
}

// Fibonacci hashing: consecutive and strided lines fall on the slices almost evenly.
std::uint32_t L2::slice_of(std::uint32_t line) const {
  const std::uint64_t mixed = (line * 0x9e3779b97f4a7c15ULL) >> 32U;
  return static_cast<std::uint32_t>((mixed * slices_) >> 32U);
}

std::uint32_t L2::set_of(std::uint32_t line, std::uint32_t slice) const {
  const std::uint64_t mixed = ((line ^ (line >> 13U)) * 0xc2b2ae3d27d4eb4fULL) >> 32U;
  return slice * sets_per_slice_ + static_cast<std::uint32_t>((mixed * sets_per_slice_) >> 32U);
}

void L2::install(std::uint64_t address, std::uint64_t bytes) {
  const auto first = static_cast<std::uint32_t>(address / kLineBytes);
  const auto last = static_cast<std::uint32_t>((address + bytes - 1) / kLineBytes);
  for (std::uint32_t line = first; line <= last; ++line) {
    const std::uint32_t set = set_of(line, slice_of(line));
    std::uint32_t slot = tags_.find(set, line);
    if (slot == TagStore::kNoWay) {
      slot = tags_.victim(set);
      tags_.replace(slot, line);
    }
    tags_.valid(slot) = 0xf;
    tags_.touch(slot);
  }
}

void L2::handle(Time now, const L2Event& event) {
  switch (event.kind) {
    case L2Event::Kind::read:
    case L2Event::Kind::write: {
      std::uint32_t index;
      if (free_boxes_.empty()) {
        index = static_cast<std::uint32_t>(boxes_.size());
        boxes_.emplace_back();
      } else {
        index = free_boxes_.back();
        free_boxes_.pop_back();
      }
      boxes_[index] = BoxState{.event = event};
      (event.kind == L2Event::Kind::read ? counters_.read_bytes : counters_.write_bytes) += event.box.bytes();
      serve(now, index);
      break;
    }
    case L2Event::Kind::chunk:
      serve(now, event.tag);
      break;
    case L2Event::Kind::fill:
      fill(now, event.tag);
      break;
    case L2Event::Kind::atomic:
      ++counters_.atomics;
      to_gpcs[event.from.gpc].send_at(
          now, now + access_ + to_gpcs[event.from.gpc].latency(),
          GpcEvent{.kind = GpcEvent::Kind::fetched, .to = event.from, .value = tile_counter_++});
      break;
    case L2Event::Kind::start_kernel:
      tile_counter_ = event.tag;
      break;
    case L2Event::Kind::sample_energy: {
      const std::uint64_t sectors = counters_.fill_sectors + counters_.writeback_sectors;
      const double bytes = static_cast<double>(sectors - std::exchange(energy_sectors_sent_, sectors)) *
                           static_cast<double>(kSectorBytes);
      to_front_end.send(now, FrontEndEvent{.kind = FrontEndEvent::Kind::energy,
                                           .from_l2 = true,
                                           .energy_pj = bytes * gpu_.power.hbm_pj_per_byte,
                                           .activity = bytes});
      break;
    }
  }
}

unsigned L2::take_lines(BoxState& box, Line* lines) const {
  const tile::Box& b = box.event.box;
  unsigned n = 0;
  for (; n < kChunkLines && box.row < b.rows; ++n) {
    const std::uint64_t row_start = b.address + box.row * b.pitch;
    const std::uint64_t row_end = row_start + b.row_bytes;  // exclusive
    const std::uint64_t start = (row_start & ~(kLineBytes - 1)) + box.line_in_row * kLineBytes;
    Line& line = lines[n];
    line.number = static_cast<std::uint32_t>(start / kLineBytes);
    line.sectors =
        sector_mask(std::max(row_start, start) - start, std::min(row_end, start + kLineBytes) - 1 - start);
    line.slice = slice_of(line.number);
    line.set = set_of(line.number, line.slice);
    tags_.prefetch(line.set);
    if (start + kLineBytes >= row_end) {
      ++box.row;
      box.line_in_row = 0;
    } else {
      ++box.line_in_row;
    }
  }
  return n;
}

void L2::serve(Time now, std::uint32_t index) {
  BoxState& box = boxes_[index];
  const tile::Box b = box.event.box;
  const bool read = box.event.kind == L2Event::Kind::read;
  const unsigned gpc = box.event.from.gpc;
  const unsigned partition =
      gpc * static_cast<unsigned>(gpu_.l2.partitions) / static_cast<unsigned>(gpu_.gpc_sms.size());
  const std::uint32_t slices_per_partition = slices_ / static_cast<std::uint32_t>(gpu_.l2.partitions);

  // The lines first, so that the host fetches their tag sets while the loop below works through them.
  Line lines[kChunkLines];
  const unsigned served = take_lines(box, lines);

  Time at = now;
  unsigned hits = 0, far = 0;
  Time first_ready = Time::never(), last_ready;
  for (unsigned i = 0; i < served; ++i) {
    const Line& line = lines[i];
    Time& free = slice_free_[line.slice];
    free = max(free, at) + sector_service_ * count(line.sectors);
    Time ready = free + access_;
    if (line.slice / slices_per_partition != partition) {
      ready += far_;
      ++far;
    }
    const std::uint32_t slot = tags_.find(line.set, line.number);
    if (!read) {
      write_line(free, line, slot);
    } else if (slot != TagStore::kNoWay && (tags_.valid(slot) & line.sectors) == line.sectors) {
      tags_.touch(slot);
      counters_.hit_sectors += count(line.sectors);
      ++hits;
      first_ready = min(first_ready, ready);
      last_ready = max(last_ready, ready);
    } else {
      read_line(free, index, line, slot, ready);
    }
    if (read) counters_.read_sectors += count(line.sectors);
    at += line_interval_;
  }

  counters_.far_lines += far;
  if (far != 0) {
    const Time through = link_[partition & 1U].reserve(now, link_line_ * far);
    if (read && hits != 0) last_ready = max(last_ready, through + access_ + far_);
  }
  if (read) {
    if (hits != 0) {
      // Booked now, not at first_ready: bookings of hits and of fills must come in time order, or the gaps
      // between them would be lost to the port.
      const Time out = gpc_return_[gpc].reserve(now, gpc_line_ * hits) + (first_ready - now);
      box.ready = max(box.ready, max(out, last_ready));
    }
  } else {
    gpc_request_[gpc].reserve(now, gpc_line_ * served);
  }
  if (box.row < b.rows) {
    schedule(max(at, read ? at : gpc_request_[gpc].free_at()),
             L2Event{.kind = L2Event::Kind::chunk, .tag = index});
    return;
  }
  box.issued = true;
  if (read)
    finish_if_complete(now, index);
  else
    free_boxes_.push_back(index);
}

void L2::read_line(Time at, std::uint32_t box, const Line& line, std::uint32_t slot, Time ready) {
  const std::uint8_t sectors = line.sectors;
  std::uint32_t index = kNone;
  if (slot != TagStore::kNoWay && tags_.pending(slot)) {
    index = miss_of_slot_[slot];
    counters_.merged_sectors += count(static_cast<std::uint8_t>(misses_[index].sectors & sectors));
  } else {
    if (slot == TagStore::kNoWay) slot = allocate(at, line.set, line.number);
    if (free_miss_ != kNone) {
      index = free_miss_;
      free_miss_ = misses_[index].next_free;
    } else {
      index = static_cast<std::uint32_t>(misses_.size());
      misses_.emplace_back();
    }
    misses_[index] = Miss{.slot = slot};
    if (slot != kNone) {
      tags_.set_pending(slot, true);
      tags_.touch(slot);
      miss_of_slot_[slot] = index;
    }
  }
  Miss& miss = misses_[index];
  const std::uint8_t valid = slot == kNone ? std::uint8_t{0} : tags_.valid(slot);
  const auto fetch = static_cast<std::uint8_t>(sectors & ~miss.sectors & ~valid);
  if (fetch != 0) {
    miss.sectors = static_cast<std::uint8_t>(miss.sectors | fetch);
    ++miss.fills;
    counters_.fill_sectors += count(fetch);
    to_hbm.send_at(
        at, at + to_hbm.latency(),
        HbmEvent{.kind = HbmEvent::Kind::read, .sectors = fetch, .tag = index, .line = line.number});
  }
  std::uint32_t w = free_waiter_;
  if (w != kNone) {
    free_waiter_ = waiters_[w].next;
  } else {
    w = static_cast<std::uint32_t>(waiters_.size());
    waiters_.emplace_back();
  }
  waiters_[w] = Waiter{box, miss.waiters};
  miss.waiters = w;
  ++boxes_[box].missing;
  boxes_[box].ready = max(boxes_[box].ready, ready);
}

void L2::write_line(Time at, const Line& line, std::uint32_t slot) {
  const std::uint8_t sectors = line.sectors;
  counters_.write_sectors += count(sectors);
  if (slot == TagStore::kNoWay) slot = allocate(at, line.set, line.number);
  if (slot == kNone) {  // every way is in flight: write through
    counters_.writeback_sectors += count(sectors);
    to_hbm.send_at(at, at + to_hbm.latency(),
                   HbmEvent{.kind = HbmEvent::Kind::write, .sectors = sectors, .line = line.number});
    return;
  }
  tags_.valid(slot) = static_cast<std::uint8_t>(tags_.valid(slot) | sectors);
  tags_.dirty(slot) = static_cast<std::uint8_t>(tags_.dirty(slot) | sectors);
  tags_.touch(slot);
}

std::uint32_t L2::allocate(Time at, std::uint32_t set, std::uint32_t line) {
  const std::uint32_t slot = tags_.victim(set);
  if (slot == TagStore::kNoWay) return kNone;
  if (const std::uint8_t dirty = tags_.dirty(slot); dirty != 0) {
    counters_.writeback_sectors += count(dirty);
    to_hbm.send_at(at, at + to_hbm.latency(),
                   HbmEvent{.kind = HbmEvent::Kind::write, .sectors = dirty, .line = tags_.line(slot)});
  }
  tags_.replace(slot, line);
  return slot;
}

void L2::fill(Time now, std::uint32_t index) {
  Miss& miss = misses_[index];
  if (--miss.fills != 0) return;
  if (miss.slot != kNone) {
    tags_.valid(miss.slot) = static_cast<std::uint8_t>(tags_.valid(miss.slot) | miss.sectors);
    tags_.set_pending(miss.slot, false);
    miss_of_slot_[miss.slot] = kNone;
  }
  std::uint32_t w = miss.waiters;
  miss.next_free = free_miss_;
  free_miss_ = index;
  while (w != kNone) {
    const Waiter waiter = waiters_[w];
    waiters_[w].next = free_waiter_;
    free_waiter_ = w;
    w = waiter.next;
    BoxState& box = boxes_[waiter.box];
    box.ready = max(box.ready, gpc_return_[box.event.from.gpc].reserve(now, gpc_line_));
    --box.missing;
    finish_if_complete(now, waiter.box);
  }
}

void L2::finish_if_complete(Time now, std::uint32_t index) {
  BoxState& box = boxes_[index];
  if (!box.issued || box.missing != 0) return;
  const L2Event& e = box.event;
  Outlet<GpcEvent>& to = to_gpcs[e.from.gpc];
  const auto bytes = static_cast<std::uint32_t>(e.box.bytes());
  counters_.returned_bytes += bytes;
  to.send_at(now, max(now, box.ready) + to.latency(),
             GpcEvent{.kind = GpcEvent::Kind::loaded, .to = e.from, .bytes = bytes});
  free_boxes_.push_back(index);
}

void L2::describe_stuck(std::vector<std::string>& out) const {
  const std::size_t live = boxes_.size() - free_boxes_.size();
  if (live != 0) out.push_back(fmt::format("{}: {} requests wait for HBM fills", name(), live));
}

void L2::report(Statistics& statistics) const {
  const auto add = [&](const char* what, std::uint64_t n) {
    statistics.add(fmt::format("l2.{}", what), static_cast<double>(n));
  };
  add("read_sectors", counters_.read_sectors);
  add("hit_sectors", counters_.hit_sectors);
  add("merged_sectors", counters_.merged_sectors);
  add("write_sectors", counters_.write_sectors);
  add("read_bytes", counters_.read_bytes);
  add("write_bytes", counters_.write_bytes);
  add("returned_bytes", counters_.returned_bytes);
  add("fill_sectors", counters_.fill_sectors);
  add("writeback_sectors", counters_.writeback_sectors);
  add("far_lines", counters_.far_lines);
  add("atomics", counters_.atomics);
}

}  // namespace tessera::sim
