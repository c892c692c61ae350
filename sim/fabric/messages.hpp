#pragma once
// What crosses the boundaries between nodes and the network.

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

/// To a NIC from its own node: send `bytes` to node `destination`.
struct SendRequest {
  std::uint32_t id = 0;  ///< the message's number, unique in the run
  std::uint32_t destination = 0;
  std::int64_t bytes = 0;
};

}  // namespace tessera::sim
