#pragma once
// What crosses the module boundaries inside a GPU. One event struct per receiving module.

#include <cstdint>

#include "kernels/tile/op.hpp"

namespace tessera::sim {

/// To the HBM module. Lines are 128 B; `sectors` has one bit for each 32 B sector of the line.
struct HbmEvent {
  enum class Kind : std::uint8_t { read, write, tick };  ///< tick is the module's own
  Kind kind = Kind::read;
  std::uint8_t sectors = 0xf;
  std::uint16_t channel = 0;   ///< tick: which pseudo-channel
  std::uint32_t tag = 0;       ///< returned with the data of a read; writes have no reply
  std::uint64_t line = 0;      ///< byte address / 128
};

/// To the L2 module.
struct L2Event {
  enum class Kind : std::uint8_t {
    read,         ///< a box of reads from an SM
    write,        ///< a box of writes from an SM
    atomic,       ///< one tile-counter fetch
    chunk,        ///< own: the next lines of a box
    fill,         ///< data of an HBM read
    reset,        ///< a kernel starts
  };
  Kind kind = Kind::read;
  std::uint8_t gpc = 0;
  std::uint8_t role = 0;       ///< requester inside the CTA
  std::uint8_t barrier = 0;
  std::uint16_t sm = 0;        ///< over the whole GPU
  std::uint16_t cta_slot = 0;  ///< of that SM
  std::uint16_t cluster_mask = 0;
  std::uint8_t is_tma = 0;
  std::uint32_t tag = 0;       ///< fill: from the request; chunk: box index
  tile::Box box;
};

}  // namespace tessera::sim
