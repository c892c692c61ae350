#pragma once
// What crosses the module boundaries inside a GPU. One event struct per receiving module.

#include <cstdint>

#include "kernels/tile/op.hpp"
#include "sim/gpu/sm/passed_trips.hpp"

namespace tessera::sim {

/// Two lines of 128 B: what L2 and HBM exchange at most in one request.
inline constexpr std::uint64_t kRunBytes = 256;

/// To the HBM module. A run is two lines of 128 B; `sectors` has one bit for each 32 B sector of it.
struct HbmEvent {
  enum class Kind : std::uint8_t {
    read,
    write,
    hold,  ///< SMs stand still from now on for `run` ns; what they have asked for is to be in their way as
           ///< now when they go on, at `tag` bytes per us
  };
  Kind kind = Kind::read;
  std::uint8_t sectors = 0xff;
  std::uint32_t run = 0;  ///< byte address / 256
  std::uint32_t tag = 0;  ///< returned with the data of a read
};

/// Who asked the L2 for something, and where the answer goes.
struct Requester {
  std::uint8_t gpc = 0;
  std::uint8_t sm = 0;    ///< within the GPC
  std::uint8_t slot = 0;  ///< resident CTA of that SM
  std::uint8_t role = 0;
  std::uint8_t barrier = 0;  ///< TMA loads: completes here
  bool tma = false;
  bool copied = false;             ///< ... by cp.async of threads
  bool promote = false;            ///< misses fetch all 256 B of their run
  std::uint16_t cluster_mask = 0;  ///< TMA loads: every CTA of the cluster that receives the data
};

/// To the L2 module.
struct L2Event {
  enum class Kind : std::uint8_t {
    read,           ///< a box of reads from an SM
    write,          ///< a box of writes from an SM
    atomic,         ///< one fetch-and-add of the grid's tile counter
    chunk,          ///< own: the next lines of box `tag`
    fill,           ///< data of HBM read `tag`
    written,        ///< HBM has done a write
    start_kernel,   ///< from the front end: the tile counter starts at `tag`
    warm,           ///< from the front end: whether (`tag`) what reads miss is there at once
    hold,           ///< from the front end, for the HBM: `box.address` ns, `tag` bytes per us
    sample_energy,  ///< from the front end; `tag` 1: passed trips are taken to be like what went on since the
                    ///< last
  };
  Kind kind = Kind::read;
  Requester from;
  std::uint32_t tag = 0;
  tile::Box box;
};

/// To a GPC module.
struct GpcEvent {
  enum class Kind : std::uint8_t {
    prepare,     ///< from the front end: kernel `value` of the list comes next, with `bytes` CTAs to an SM
    launch,      ///< from the front end: CTA `value` starts in (sm, slot)
    resume,      ///< own: the role goes on (this and the next three wait while their SM stands still)
    loaded,      ///< from the L2: `bytes` of a load have arrived
    stored,      ///< from the L2: it has taken a box of writes
    fetched,     ///< from the L2: the tile counter was `value`
    set_clock,   ///< from the front end: the SM period is now `value` fs
    pass_trips,  ///< from the front end: until `value` fs loop trips are passed over, each taking `bytes` ps
    sample_energy,  ///< from the front end
  };
  Kind kind = Kind::resume;
  Requester to;
  std::uint32_t bytes = 0;
  std::uint64_t value = 0;  ///< launch: CTA index in the low half, cluster number in the high half
};

/// To the front end: CTA scheduler, kernel launch, power governor.
struct FrontEndEvent {
  enum class Kind : std::uint8_t {
    start_kernel,   ///< own: the next kernel of the list begins
    cta_done,       ///< from a GPC: (sm, slot) is free
    dispatch,       ///< own: a freed slot can take its next CTA
    finish_kernel,  ///< own: the grid counts as complete
    sample_power,   ///< own: the governor looks
    energy,         ///< reply to sample_energy
  };
  Kind kind = Kind::start_kernel;
  std::uint8_t gpc = 0, sm = 0, slot = 0;
  bool from_l2 = false;    ///< energy: from the L2, else from GPC `gpc`
  std::uint16_t look = 0;  ///< sample_power: which; of one that is no longer wanted, not the next
  double energy_pj = 0;    ///< dynamic energy since the last sample, at nominal voltage
  double activity = 0;     ///< since the last sample: tensor-core time of all SMs (us), or HBM bytes
  double loads = 0;        ///< since the last sample, bytes: asked for by SMs, or read from HBM
  TripProgress trips;      ///< since the last sample
};

}  // namespace tessera::sim
