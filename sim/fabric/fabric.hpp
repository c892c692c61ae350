#pragma once
// The network between nodes: a NIC per node, first-level switches, and a core switch above them when there
// is more than one. Packets are stored and forwarded; every link has credits for its far end's input buffer.

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "sim/core/busy_history.hpp"
#include "sim/core/hardware.hpp"
#include "sim/core/module.hpp"
#include "sim/core/pipe.hpp"
#include "sim/fabric/messages.hpp"

namespace tessera::sim {

/// One direction of a link, as its sending end sees it.
struct LinkState {
  std::string name;
  double gb_per_s = 0;
  std::int64_t credits = 0;  ///< wire bytes that the far input buffer still has room for
  std::int64_t credits_at_rest = 0;
  Pipe wire;
  BusyHistory history;
  std::int64_t payload_bytes = 0;

  bool can_send(Time now, const Packet& packet) const {
    return wire.free_at() <= now && credits >= packet.wire;
  }
  /// Books the packet; returns when its last byte has left.
  Time send(Time now, const Packet& packet) {
    credits -= packet.wire;
    payload_bytes += packet.payload;
    const Time left = wire.reserve(now, transfer_time(packet.wire, gb_per_s));
    history.add(now, left);  // can_send: the wire was free
    return left;
  }
};

class Switch;

/// A node's port into the network.
class Nic : public EventModule<NicEvent> {
 public:
  Nic(sc_core::sc_module_name name, const FabricSpec& spec, std::uint32_t node);

  Outlet<NodeEvent> to_node;
  Outlet<SwitchEvent> to_switch;
  std::uint16_t switch_port = 0;  ///< which of the switch's ports this NIC is on

  LinkState& link() { return link_; }
  const LinkState& link() const { return link_; }
  std::int64_t bytes_sent() const { return link_.payload_bytes; }
  std::int64_t bytes_received() const { return bytes_received_; }
  std::uint64_t messages_received() const { return messages_received_; }
  void describe_stuck(std::vector<std::string>& out) const override;
  /// Message sizes by id, so that the receiver knows a message's last packet. Shared by all NICs.
  std::vector<std::int64_t>* outstanding = nullptr;

 private:
  struct Sending {
    std::uint32_t message, destination;
    std::int64_t bytes_left;
  };
  void handle(Time now, const NicEvent& event) override;
  void transmit(Time now);

  const FabricSpec& spec_;
  std::uint32_t node_;
  LinkState link_;
  Pipe overhead_;               // the sender's serial cost per message
  std::deque<Sending> active_;  // served a packet each in turn
  Time wake_at_ = Time::never();
  std::int64_t bytes_received_ = 0;
  std::uint64_t messages_received_ = 0;
};

/// Input-buffered, with a queue per input and output, and round-robin arbitration at each output.
class Switch : public EventModule<SwitchEvent> {
 public:
  Switch(sc_core::sc_module_name name, const FabricSpec& spec);

  /// Adds a port whose far end is a NIC or another switch. Returns its number.
  std::uint16_t add_port(const std::string& link_name, double gb_per_s);
  void connect_nic(std::uint16_t port, Nic& nic, Time latency);
  void connect_switch(std::uint16_t port, Switch& other, std::uint16_t other_port, Time latency);
  /// Packets for `node` leave through `port`.
  void route(std::uint32_t node, std::uint16_t port);

  const LinkState& link(std::uint16_t port) const { return ports_[port].link; }
  std::size_t ports() const { return ports_.size(); }
  void describe_stuck(std::vector<std::string>& out) const override;

 private:
  struct Port {
    LinkState link;
    Outlet<NicEvent> to_nic;
    Outlet<SwitchEvent> to_switch;
    std::uint16_t far_port = 0;
    std::vector<std::deque<Packet>> queues;  // of this output, per input
    std::size_t queued = 0;
    std::size_t next_input = 0;
    Time wake_at = Time::never();
  };
  void handle(Time now, const SwitchEvent& event) override;
  void transmit(Time now, std::uint16_t port);

  const FabricSpec& spec_;
  Time forwarding_;
  std::vector<Port> ports_;
  std::vector<std::uint16_t> routes_;
};

class Fabric {
 public:
  /// Elaborates the network for the named nodes, all before the simulation starts.
  Fabric(const FabricSpec& spec, const std::vector<std::string>& node_names, std::size_t messages);

  /// The least latency from a node to its NIC: what the node's outlet must be connected with.
  Time endpoint_latency() const;
  Nic& nic(std::uint32_t node) { return *nics_[node]; }
  std::vector<Module*> modules();
  /// Every direction of every link.
  std::vector<const LinkState*> links() const;
  /// Throws ConservationError unless every byte sent has arrived and every credit has come home.
  void check_conservation() const;

 private:
  FabricSpec spec_;
  std::vector<std::int64_t> outstanding_;
  std::vector<std::unique_ptr<Nic>> nics_;
  std::vector<std::unique_ptr<Switch>> switches_;
};

}  // namespace tessera::sim
