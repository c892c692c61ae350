#pragma once
// What crosses the boundaries between nodes, NICs and switches.

#include <cstdint>

namespace tessera::sim {

/// To a node module.
struct NodeEvent {
  enum class Kind : std::uint8_t {
    start,             ///< own: the run begins
    kernel_done,       ///< own: `id` is the task whose kernel has completed
    message_sent,      ///< from its NIC: the last byte of message `id` has left the node
    message_received,  ///< from its NIC: the last byte of message `id` has arrived
  };
  Kind kind = Kind::start;
  std::uint32_t id = 0;
};

/// One packet of a message. Wire bytes are payload + header.
struct Packet {
  std::uint32_t message = 0;
  std::uint32_t destination = 0;  ///< node
  std::uint32_t payload = 0;
  std::uint32_t wire = 0;
};

/// To a NIC.
struct NicEvent {
  enum class Kind : std::uint8_t {
    send,      ///< from its node: `bytes` to node `packet.destination` as message `packet.message`
    begin,     ///< own: the sender's overhead for the message is over
    transmit,  ///< own: the port may be free for the next packet
    packet,    ///< from its switch
    credit,    ///< from its switch: `bytes` of its input buffer are free again
  };
  Kind kind = Kind::send;
  Packet packet;
  std::int64_t bytes = 0;
};

/// To a switch.
struct SwitchEvent {
  enum class Kind : std::uint8_t {
    packet,    ///< arrived, and looked up, at input `port`
    transmit,  ///< own: output `port` may be free
    credit,    ///< from the next hop of output `port`: `packet.wire` bytes are free again
  };
  Kind kind = Kind::packet;
  std::uint16_t port = 0;
  Packet packet;
};

}  // namespace tessera::sim
