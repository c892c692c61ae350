#include "sim/gpu/hbm/hbm.hpp"

#include <fmt/format.h>

#include "sim/core/statistics.hpp"

namespace tessera::sim {

Hbm::Hbm(sc_core::sc_module_name name, const HbmSpec& spec)
    : EventModule{name}, spec_{spec}, timings_{spec}, map_{spec} {
  channels_.reserve(map_.channels());
  for (std::uint32_t c = 0; c < map_.channels(); ++c)
    channels_.push_back({PseudoChannel{spec_, timings_}, {}});
}

void Hbm::handle(Time now, const HbmEvent& event) {
  if (event.kind == HbmEvent::Kind::tick) {
    Channel& channel = channels_[event.channel];
    if (channel.tick != now) return;  // an earlier tick has taken over
    channel.tick = Time::never();
    serve(now, event.channel);
    return;
  }
  const HbmLocation at = map_.locate(event.line);
  Channel& channel = channels_[at.channel];
  const PseudoChannel::Request request{.pair = at.pair,
                                       .row = at.row,
                                       .sectors = event.sectors,
                                       .write = event.kind == HbmEvent::Kind::write,
                                       .tag = event.tag};
  if (!channel.overflow.empty() || channel.scheduler.full(request.write)) {
    channel.overflow.push_back(request);
    return;
  }
  channel.scheduler.push(now, request);
  serve(now, at.channel);
}

void Hbm::serve(Time now, std::uint32_t index) {
  Channel& channel = channels_[index];
  PseudoChannel& scheduler = channel.scheduler;
  while (scheduler.next_step() <= now) {
    PseudoChannel::Completion done;
    if (!scheduler.step(now, done)) break;
    if (done.read) {
      to_l2.send_at(now, done.data_end + to_l2.latency(),
                    L2Event{.kind = L2Event::Kind::fill, .tag = done.tag});
    }
    while (!channel.overflow.empty() && !scheduler.full(channel.overflow.front().write)) {
      scheduler.push(now, channel.overflow.front());
      channel.overflow.pop_front();
    }
  }
  if (const Time next = scheduler.next_step(); next < channel.tick) {
    channel.tick = next;
    schedule(next, HbmEvent{.kind = HbmEvent::Kind::tick, .channel = static_cast<std::uint16_t>(index)});
  }
}

HbmCounters Hbm::counters() const {
  HbmCounters sum;
  for (const Channel& c : channels_) {
    const HbmCounters& n = c.scheduler.counters();
    sum.reads += n.reads;
    sum.writes += n.writes;
    sum.read_bytes += n.read_bytes;
    sum.write_bytes += n.write_bytes;
    sum.row_hits += n.row_hits;
    sum.activates += n.activates;
    sum.precharges += n.precharges;
    sum.refreshes += n.refreshes;
    sum.data_busy += n.data_busy;
  }
  return sum;
}

void Hbm::describe_stuck(std::vector<std::string>& out) const {
  for (std::size_t c = 0; c < channels_.size(); ++c) {
    const auto waiting =
        static_cast<std::size_t>(channels_[c].scheduler.queued()) + channels_[c].overflow.size();
    if (waiting != 0)
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
  statistics.add("hbm.data_busy_us", n.data_busy.us());
}

}  // namespace tessera::sim
