#pragma once
// Loop trips, and whole pieces of work, that an SM does not simulate (docs/skipping.md).
//
// While the front end lets trips be passed over, the role that is foremost in a loop decides how many of the trips
// to come; the others of its CTA, and of its cluster, pass over the same ones when they get there. Each waits for
// as long as those trips take from the moment it gets there, so that all keep their distances, and barriers and
// rings see a loop that is just shorter.

#include <array>
#include <cstdint>
#include <stdexcept>

#include "sim/core/time.hpp"
#include "sim/gpu/sm/counters.hpp"

namespace tessera::sim {

/// Until when trips are passed over, and how long each takes.
struct PassOrder {
  Time until, each;
};

/// The trips that the roles of a CTA or cluster pass over together.
class PassedTrips {
 public:
  struct Pass {
    std::uint64_t at = 0;  ///< the call of trip() or item(), counted by each role, that brings it
    std::uint64_t trips = 0;
    Time length;
  };

  /// Call number `at` of a role that has gone along with `taken` passes so far: the pass it meets there, or none.
  const Pass* met(std::uint64_t at, std::uint32_t taken) const {
    if (taken == count_) return nullptr;
    if (count_ - taken > kKept) throw std::logic_error{"a role fell behind the passed trips of its CTA"};
    const Pass& pass = passes_[taken % kKept];
    return pass.at == at ? &pass : nullptr;
  }
  /// Notes call number `at`; true if no role has been there before.
  bool foremost(std::uint64_t at) {
    if (at < begun_) return false;
    begun_ = at + 1;
    return true;
  }
  /// What call number `at` brings, for all roles.
  const Pass* add(std::uint64_t at, Pass pass) {
    pass.at = at;
    return &(passes_[count_++ % kKept] = pass);
  }

 private:
  static constexpr std::uint32_t kKept = 8;  // passes that lie between the foremost role and the last
  std::uint64_t begun_ = 0;
  std::uint32_t count_ = 0;
  std::array<Pass, kKept> passes_;
};

/// Where one role stands in its trips.
struct TripState {
  std::uint64_t calls = 0;   ///< of trip() and item()
  std::uint32_t passes = 0;  ///< gone along with
  std::uint64_t alike = 0;   ///< trips left at the last call
  bool in_trip = false;      ///< the last call began a trip that was not passed over
  Time begun;                ///< when
  SmCounters work;           ///< done since
  Time from, until;          ///< the trips being passed over, of which the part before `from` is booked
  double trips = 0;          ///< in that time
  SmCounters passing;        ///< done in that time
  bool in_item = false;      ///< the last call of item() began one that was not passed over
  Time item_begun;           ///< when
  Time item_trip_time;       ///< since, in trips that were passed over or timed
  std::uint64_t item_trips = 0;    ///< alike ones of it that are not passed over
  std::uint64_t item_untimed = 0;  ///< of these, those not timed
  SmCounters item_work;          ///< done since
  Time tensor_backlog, shared_backlog;  ///< of the pipes, when they began
};

/// Trips of one role index that an SM has seen whole.
struct SeenTrips {
  std::uint64_t count = 0;
  SmCounters work;
};

/// Pieces of work of one role index that an SM has seen whole, but for passed trips.
struct SeenItems {
  std::uint64_t count = 0;
  std::uint64_t trips = 0;    ///< that were not passed over
  SmCounters work;            ///< with these
  std::uint64_t untimed = 0;  ///< of these trips
  Time time;                  ///< with the untimed ones: what is not proportional to the trips
};

/// How the trips of one SM went since the last look.
struct TripProgress {
  std::uint64_t timed = 0;  ///< trips of which the next of the same loop was seen to begin
  Time time;                ///< that they took together
  double made = 0;          ///< trips that the last role made, passed ones included
  double passed_loads = 0;  ///< L2 bytes that all roles would have loaded in passed trips
};

}  // namespace tessera::sim
