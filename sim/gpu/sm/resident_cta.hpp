#pragma once
// The state of one CTA while it lives on an SM.

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/tile/kernel.hpp"
#include "sim/core/time.hpp"
#include "sim/gpu/sm/counters.hpp"
#include "sim/gpu/sm/mbarrier.hpp"
#include "sim/gpu/sm/passed_trips.hpp"

namespace tessera::sim {

struct NamedBarrier {
  std::uint32_t arrived = 0;
  std::uint16_t waiting = 0;
  Time latest;
};

/// What a role is blocked on, for deadlock reports.
enum class Blocked : std::uint8_t {
  no,
  mbarrier,
  named_barrier,
  loads,
  stores,
  issue,
  products,
  tile_counter,
  cluster
};

struct RoleState {
  tile::Program program;
  std::uint32_t warps = 4;
  Blocked blocked = Blocked::no;
  bool ended = false;  ///< its program has; it is done when its stores are
  bool done = false;
  std::uint8_t blocked_on = 0;  ///< barrier index
  std::uint32_t loads_pending = 0;
  std::uint32_t loads_allowed = 0;  ///< while blocked on loads: how many may stay pending
  Time ready;                       ///< the role does not go on before this
  Time loads_ready;                 ///< arrival of the latest load so far
  bool tile_asked = false;          ///< of the tile counter
  bool tile_here = false;           ///< it has answered, with `tile`
  std::uint64_t tile = 0;
  std::uint32_t stores_pending = 0;   ///< that the L2 has not taken yet
  std::uint32_t stores_allowed = 0;   ///< while blocked on stores: how many may stay pending
  std::uint32_t awaited_product = 0;  ///< while blocked on products: which
  bool issuing = false;               ///< its last wgmma's instructions may still wait for their turns
  TripState trips;
};

struct ResidentCta {
  tile::Cta cta;
  std::uint32_t cluster = 0;  ///< number of the cluster in the grid
  std::uint32_t roles_left = 0;
  std::vector<RoleState> roles;
  std::vector<Mbarrier> barriers;
  std::array<NamedBarrier, 16> named{};
  PassedTrips passed;  ///< a CTA of a cluster goes by its cluster's instead
};

}  // namespace tessera::sim
