#include "sim/gpu/hbm/hbm.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "sim/core/statistics.hpp"

namespace tessera::sim {

Hbm::Hbm(sc_core::sc_module_name name, const HbmSpec& spec)
    : Receiver{name}, spec_{spec}, timing_{spec}, map_{spec}, next_(map_.channels(), PseudoChannel::kNever) {
  channels_.reserve(map_.channels());
  for (std::uint32_t c = 0; c < map_.channels(); ++c) channels_.emplace_back(spec_, timing_);
}

void Hbm::accept_inbox() {
  // Where they all go first, so that the host fetches the ends of those channels' queues meanwhile.
  located_.clear();
  for (const Arrival& arrival : arrivals()) {
    located_.push_back(map_.locate(arrival.event.run));
    channels_[located_.back().channel].prefetch_push();
  }
  const HbmLocation* next = located_.data();
  take_arrivals([&](const Arrival& arrival) {
    const HbmLocation& place = *next++;
    if (arrival.event.kind == HbmEvent::Kind::hold) return hold(arrival.at, arrival.event);
    PseudoChannel& channel = channels_[place.channel];
    // On the first edge of the command clock from its arrival on.
    channel.push({.at = cycle_of(arrival.at),
                  .bank = place.bank,
                  .row = place.row,
                  .tag = arrival.event.tag,
                  .sectors = arrival.event.sectors,
                  .write = arrival.event.kind == HbmEvent::Kind::write});
    next_[place.channel] = channel.next();
    ++events_handled_;
  });
}

void Hbm::run_window(Time end) {
  if (hold_asked_ < end) {
    // What waits just then, whatever has been handed over since.
    run_channels(hold_asked_);
    begin_hold();
  }
  run_channels(end);
  if (recorder_ != nullptr && recorder_->wants(end)) {
    std::vector<Time> busy;
    for (const PseudoChannel& c : channels_)
      busy.push_back(timing_.ck * static_cast<std::int64_t>(c.counters().data_busy));
    recorder_->add(end, busy);
  }
  if (end >= hold_until_) {
    behind_ += hold_until_ - hold_from_;
    hold_from_ = hold_until_ = Time::never();
  }
}

Cycle Hbm::cycle_of(Time t) const { return (channel_time(t).fs + timing_.ck.fs - 1) / timing_.ck.fs; }

void Hbm::run_channels(Time end) {
  const Cycle end_cycle = cycle_of(end);
  for (std::uint32_t c = 0; c < next_.size(); ++c) {
    if (next_[c] >= end_cycle) continue;
    if (c + 1 < next_.size() && next_[c + 1] < end_cycle) channels_[c + 1].prefetch_run();
    PseudoChannel& channel = channels_[c];
    const std::uint64_t steps = channel.steps();
    channel.run(end_cycle, [&](const PseudoChannel::Completion& done) {
      const Time data_end = real_time(timing_.ck * done.data_end);
      // One lane a channel: data of equal times arrives in the order of the channels, whatever the window.
      to_l2_.send_at(
          data_end, data_end + to_l2_.latency(),
          L2Event{.kind = done.read ? L2Event::Kind::fill : L2Event::Kind::written, .tag = done.tag}, c);
    });
    next_[c] = channel.next();
    events_handled_ += channel.steps() - steps;
  }
}

void Hbm::hold(Time now, const HbmEvent& event) {
  if (hold_from_ != Time::never() || hold_asked_ != Time::never() || event.tag == 0) return;
  hold_asked_ = now;
  hold_ = event;
}

void Hbm::begin_hold() {
  const Cycle now = cycle_of(hold_asked_);
  std::size_t waiting = 0;
  for (const PseudoChannel& c : channels_) waiting += c.waiting(now);
  hold_from_ = hold_asked_ + Time::from_ns(hold_.run);
  hold_until_ = hold_from_ + Time::from_us(static_cast<double>(waiting * kRunBytes) / hold_.tag);
  hold_asked_ = Time::never();
}

Time Hbm::channel_time(Time t) const {
  if (t < hold_from_) return t - behind_;
  return t < hold_until_ ? hold_from_ - behind_ : t - behind_ - (hold_until_ - hold_from_);
}

Time Hbm::real_time(Time channels) const {
  const Time t = channels + behind_;
  return t < hold_from_ ? t : t + (hold_until_ - hold_from_);
}

Time Hbm::next_event() const {
  const Cycle next = *std::min_element(next_.begin(), next_.end());
  return next == PseudoChannel::kNever ? hold_asked_ : min(hold_asked_, real_time(timing_.ck * next));
}

HbmCounters Hbm::counters() const {
  HbmCounters sum;
  for (const PseudoChannel& c : channels_) sum += c.counters();
  return sum;
}

void Hbm::describe_stuck(std::vector<std::string>& out) const {
  for (std::size_t c = 0; c < channels_.size(); ++c) {
    if (const std::size_t waiting = channels_[c].pending(); waiting != 0)
      out.push_back(fmt::format("{}: pseudo-channel {} still holds {} requests", name(), c, waiting));
  }
}

void Hbm::report(Statistics& statistics) const {
  const HbmCounters n = counters();
  const auto add = [&](const char* what, std::uint64_t value) {
    statistics.add(fmt::format("hbm.{}", what), static_cast<double>(value));
  };
  add("reads", n.reads);
  add("writes", n.writes);
  add("read_bytes", n.read_bytes);
  add("write_bytes", n.write_bytes);
  add("row_hits", n.row_hits);
  add("activates", n.activates);
  add("precharges", n.precharges);
  add("refreshes", n.refreshes);
  statistics.add("hbm.data_busy_us", (timing_.ck * n.data_busy).us());
}

}  // namespace tessera::sim
