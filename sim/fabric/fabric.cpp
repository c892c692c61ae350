#include "sim/fabric/fabric.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "sim/core/error.hpp"

namespace tessera::sim {

namespace {
/// Latencies of a boundary must be positive for modules to run ahead of one another at all.
Time at_least_1ns(double ns) { return max(Time::from_ns(ns), Time::nanoseconds(1)); }
}  // namespace

Fabric::Fabric(const FabricSpec& spec, const std::vector<std::string>& node_names, std::size_t messages)
    : spec_{spec}, outstanding_(messages, 0) {
  const std::size_t nodes = node_names.size();
  const auto per_switch = static_cast<std::size_t>(spec_.nodes_per_switch);
  const std::size_t leaves = (nodes + per_switch - 1) / per_switch;
  const Time hop = at_least_1ns(spec_.link_latency_ns);
  const Time uplink_hop = at_least_1ns(spec_.link_latency_ns + spec_.core_latency_ns / 2);

  for (std::size_t s = 0; s < leaves; ++s) {
    switches_.push_back(std::make_unique<Switch>(fmt::format("switch{}", s).c_str(), spec_));
  }
  if (leaves > 1) switches_.push_back(std::make_unique<Switch>("core", spec_));

  for (std::size_t n = 0; n < nodes; ++n) {
    Switch& leaf = *switches_[n / per_switch];
    auto nic = std::make_unique<Nic>(fmt::format("nic{}", n).c_str(), spec_, static_cast<std::uint32_t>(n));
    const std::string switch_name = leaf.name();
    nic->switch_port =
        leaf.add_port(fmt::format("{} -> {}", switch_name, node_names[n]), spec_.node_gb_per_s);
    nic->outstanding = &outstanding_;
    nic->link().name = fmt::format("{} -> {}", node_names[n], switch_name);
    nic->link().gb_per_s = spec_.node_gb_per_s;
    nic->link().credits = nic->link().credits_at_rest = spec_.buffer_bytes;
    nic->to_switch.connect(leaf, hop);
    leaf.connect_nic(nic->switch_port, *nic, hop);
    leaf.route(static_cast<std::uint32_t>(n), nic->switch_port);
    nics_.push_back(std::move(nic));
  }
  if (leaves > 1) {
    Switch& core = *switches_.back();
    for (std::size_t s = 0; s < leaves; ++s) {
      Switch& leaf = *switches_[s];
      const std::size_t first = s * per_switch, last = std::min(nodes, first + per_switch);
      const double rate = spec_.uplink_gb_per_s > 0 ? spec_.uplink_gb_per_s
                                                    : spec_.node_gb_per_s * static_cast<double>(last - first);
      const std::uint16_t up = leaf.add_port(fmt::format("{} -> core", leaf.name()), rate);
      const std::uint16_t down = core.add_port(fmt::format("core -> {}", leaf.name()), rate);
      leaf.connect_switch(up, core, down, uplink_hop);
      core.connect_switch(down, leaf, up, uplink_hop);
      for (std::size_t n = 0; n < nodes; ++n) {
        if (n >= first && n < last)
          core.route(static_cast<std::uint32_t>(n), down);
        else
          leaf.route(static_cast<std::uint32_t>(n), up);
      }
    }
  }
}

Time Fabric::endpoint_latency() const { return at_least_1ns(spec_.endpoint_latency_ns); }

std::vector<Module*> Fabric::modules() {
  std::vector<Module*> all;
  for (const auto& n : nics_) all.push_back(n.get());
  for (const auto& s : switches_) all.push_back(s.get());
  return all;
}

std::vector<const LinkState*> Fabric::links() const {
  std::vector<const LinkState*> all;
  for (const auto& n : nics_) all.push_back(&n->link());
  for (const auto& s : switches_) {
    for (std::uint16_t p = 0; p < s->ports(); ++p) all.push_back(&s->link(p));
  }
  return all;
}

void Fabric::check_conservation() const {
  std::int64_t sent = 0, received = 0;
  for (const auto& n : nics_) {
    sent += n->bytes_sent();
    received += n->bytes_received();
  }
  if (sent != received)
    throw ConservationError{fmt::format("fabric: {} bytes sent, {} received", sent, received)};
  for (const std::int64_t left : outstanding_) {
    if (left != 0) throw ConservationError{fmt::format("fabric: a message misses {} bytes", left)};
  }
  for (const LinkState* link : links()) {
    if (link->credits != link->credits_at_rest) {
      throw ConservationError{fmt::format("{}: {} of {} credit bytes came home", link->name, link->credits,
                                          link->credits_at_rest)};
    }
  }
}

}  // namespace tessera::sim
