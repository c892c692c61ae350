#include <fmt/format.h>

#include "sim/fabric/fabric.hpp"

namespace tessera::sim {

Switch::Switch(sc_core::sc_module_name name, const FabricSpec& spec)
    : EventModule{name}, spec_{spec}, forwarding_{Time::from_ns(spec.switch_latency_ns)} {}

std::uint16_t Switch::add_port(const std::string& link_name, double gb_per_s) {
  Port& port = ports_.emplace_back();
  port.link.name = link_name;
  port.link.gb_per_s = gb_per_s;
  port.link.credits = port.link.credits_at_rest = spec_.buffer_bytes;
  for (Port& p : ports_) p.queues.resize(ports_.size());
  return static_cast<std::uint16_t>(ports_.size() - 1);
}

void Switch::connect_nic(std::uint16_t port, Nic& nic, Time latency) {
  ports_[port].to_nic.connect(nic, latency);
}

void Switch::connect_switch(std::uint16_t port, Switch& other, std::uint16_t other_port, Time latency) {
  ports_[port].to_switch.connect(other, latency);
  ports_[port].far_port = other_port;
}

void Switch::route(std::uint32_t node, std::uint16_t port) {
  if (node >= routes_.size()) routes_.resize(node + 1, 0);
  routes_[node] = port;
}

void Switch::handle(Time now, const SwitchEvent& event) {
  switch (event.kind) {
    case SwitchEvent::Kind::packet: {
      const std::uint16_t out = routes_[event.packet.destination];
      ports_[out].queues[event.port].push_back(event.packet);
      ++ports_[out].queued;
      transmit(now, out);
      break;
    }
    case SwitchEvent::Kind::transmit:
      ports_[event.port].wake_at = Time::never();
      transmit(now, event.port);
      break;
    case SwitchEvent::Kind::credit:
      ports_[event.port].link.credits += event.packet.wire;
      transmit(now, event.port);
      break;
  }
}

void Switch::transmit(Time now, std::uint16_t index) {
  Port& port = ports_[index];
  while (port.queued > 0) {
    // The next input in turn that has a packet for this output.
    std::size_t input = port.next_input;
    while (port.queues[input].empty()) input = (input + 1) % ports_.size();
    const Packet packet = port.queues[input].front();
    if (!port.link.can_send(now, packet)) break;
    port.queues[input].pop_front();
    --port.queued;
    port.next_input = (input + 1) % ports_.size();
    const Time left = port.link.send(now, packet);
    if (port.to_nic.connected()) {
      port.to_nic.send_at(now, left + port.to_nic.latency(),
                          NicEvent{.kind = NicEvent::Kind::packet, .packet = packet});
    } else {
      port.to_switch.send_at(
          now, left + port.to_switch.latency() + forwarding_,
          SwitchEvent{.kind = SwitchEvent::Kind::packet, .port = port.far_port, .packet = packet});
    }
    // Its place in the input buffer is free: tell whoever sends into that input.
    Port& from = ports_[input];
    if (from.to_nic.connected()) {
      from.to_nic.send(now, NicEvent{.kind = NicEvent::Kind::credit, .bytes = packet.wire});
    } else {
      from.to_switch.send(
          now, SwitchEvent{.kind = SwitchEvent::Kind::credit, .port = from.far_port, .packet = packet});
    }
  }
  if (port.queued > 0 && port.link.wire.free_at() > now && port.wake_at > port.link.wire.free_at()) {
    port.wake_at = port.link.wire.free_at();
    schedule(port.wake_at, SwitchEvent{.kind = SwitchEvent::Kind::transmit, .port = index});
  }
}

void Switch::describe_stuck(std::vector<std::string>& out) const {
  for (const Port& port : ports_) {
    if (port.queued == 0) continue;
    out.push_back(fmt::format("{}: {} packets wait for {} ({} credit bytes left)", name(), port.queued,
                              port.link.name, port.link.credits));
  }
}

}  // namespace tessera::sim
