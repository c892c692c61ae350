#include <fmt/format.h>

#include "sim/fabric/fabric.hpp"

namespace tessera::sim {

Nic::Nic(sc_core::sc_module_name name, const FabricSpec& spec, std::uint32_t node)
    : EventModule{name}, spec_{spec}, node_{node} {}

void Nic::handle(Time now, const NicEvent& event) {
  switch (event.kind) {
    case NicEvent::Kind::send: {
      if (event.packet.destination == node_)
        throw std::logic_error{fmt::format("{} sends to itself", name())};
      (*outstanding)[event.packet.message] = event.bytes;
      const Time ready = overhead_.reserve(now, Time::from_us(spec_.message_overhead_us));
      schedule(ready, NicEvent{.kind = NicEvent::Kind::begin, .packet = event.packet, .bytes = event.bytes});
      break;
    }
    case NicEvent::Kind::begin:
      active_.push_back({event.packet.message, event.packet.destination, event.bytes});
      transmit(now);
      break;
    case NicEvent::Kind::transmit:
      wake_at_ = Time::never();
      transmit(now);
      break;
    case NicEvent::Kind::credit:
      link_.credits += event.bytes;
      transmit(now);
      break;
    case NicEvent::Kind::packet: {
      bytes_received_ += event.packet.payload;
      // The NIC hands packets on at once: its buffer is free again.
      to_switch.send(
          now, SwitchEvent{.kind = SwitchEvent::Kind::credit, .port = switch_port, .packet = event.packet});
      std::int64_t& left = (*outstanding)[event.packet.message];
      left -= event.packet.payload;
      if (left == 0) {
        ++messages_received_;
        to_node.send(now, NodeEvent{.kind = NodeEvent::Kind::message_received, .id = event.packet.message});
      }
      break;
    }
  }
}

void Nic::transmit(Time now) {
  while (!active_.empty()) {
    Sending& s = active_.front();
    const auto payload = static_cast<std::uint32_t>(std::min(s.bytes_left, spec_.packet_bytes));
    const Packet packet{s.message, s.destination, payload,
                        payload + static_cast<std::uint32_t>(spec_.header_bytes)};
    if (!link_.can_send(now, packet)) break;
    const Time left = link_.send(now, packet);
    to_switch.send_at(now, left + to_switch.latency() + Time::from_ns(spec_.switch_latency_ns),
                      SwitchEvent{.kind = SwitchEvent::Kind::packet, .port = switch_port, .packet = packet});
    s.bytes_left -= payload;
    const Sending next = s;
    active_.pop_front();
    if (next.bytes_left > 0)
      active_.push_back(next);
    else
      to_node.send_at(now, left + to_node.latency(),
                      NodeEvent{.kind = NodeEvent::Kind::message_sent, .id = next.message});
  }
  if (!active_.empty() && link_.wire.free_at() > now && wake_at_ > link_.wire.free_at()) {
    wake_at_ = link_.wire.free_at();
    schedule(wake_at_, NicEvent{.kind = NicEvent::Kind::transmit});
  }
}

void Nic::describe_stuck(std::vector<std::string>& out) const {
  if (active_.empty()) return;
  out.push_back(fmt::format("{}: {} messages not sent, {} credit bytes left on {}", name(), active_.size(),
                            link_.credits, link_.name));
}

}  // namespace tessera::sim
