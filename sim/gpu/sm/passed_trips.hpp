#pragma once
// Loop trips, and whole pieces of work, that an SM does not simulate (docs/skipping.md).
//
// While the front end lets trips be passed over, the role that is foremost in a loop decides how many of the
// trips to come; the others of its CTA, and of its cluster, pass over the same ones when they get there, so
// that barriers and rings see a loop that is just shorter. For as long as those trips take the SM stands
// still, with all that is on its way in it or to it: it goes on as if nothing had been. Where an SM has
// several CTAs, and for whole pieces of work, each role waits on its own instead, from the moment it gets
// there, so that all keep their distances.

#include <array>
#include <cstdint>
#include <stdexcept>

#include "sim/core/time.hpp"
#include "sim/gpu/sampling/trip_window.hpp"
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
    bool frozen = false;  ///< the SMs stood still meanwhile: no role waits on its own
  };

  /// Call number `at` of a role that has gone along with `taken` passes so far: the pass it meets there, or
  /// none.
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

/// Where one role stands in its pieces of work and their trips.
struct TripState {
  enum class Place : std::uint8_t {
    outside,
    head,    ///< of a piece of work, before its trips
    trip,    ///< a trip that was not passed over, or, after the last, the tail of the piece
    passed,  ///< behind passed trips
  };
  Place place = Place::outside;
  bool usual_head = false;   ///< with everything else going on as it usually does
  std::uint64_t calls = 0;   ///< of trip() and item()
  std::uint32_t passes = 0;  ///< gone along with
  std::uint64_t alike = 0;   ///< trips left, that one included; behind passed ones, without them
  Time begun;                ///< when this place was reached
  Time each;                 ///< of the passed trips
  SmCounters work;           ///< done since
  Time from, until;          ///< the trips being passed over, of which the part before `from` is booked
  double trips = 0;          ///< in that time
  SmCounters passing;        ///< done in that time
  Time tensor_backlog, shared_backlog;  ///< of the pipes, when they began
};

/// A part of the pieces of work, as an SM has seen it: a trip, what comes before the first one, or what comes
/// with the last and after it.
struct SeenPart {
  std::uint64_t count = 0;
  Time time;
  SmCounters work;
  bool usual = false;

  /// Parts seen while trips were passed over elsewhere, or as the kernel started, only count as long as there
  /// are no others.
  void add(Time took, const SmCounters& done, bool as_usual) {
    if (as_usual && !usual) *this = {.usual = true};
    if (usual && !as_usual) return;
    ++count;
    time += took;
    work += done;
  }
  Time mean_time() const { return Time{time.fs / static_cast<std::int64_t>(count)}; }
  SmCounters mean_work() const { return work.scaled(1 / static_cast<double>(count)); }
};

/// All parts, of one role index.
struct SeenParts {
  SeenPart head, trip, tail;
};

/// How trips went since the last look.
struct TripProgress {
  /// A trip is timed when the next of the same loop is seen to begin; trips made and pieces of work are the
  /// last role's.
  TripWindow window;
  double passed_loads = 0;  ///< L2 bytes that all roles would have loaded in passed trips

  TripProgress& operator+=(const TripProgress& o) {
    window += o.window;
    passed_loads += o.passed_loads;
    return *this;
  }
};

}  // namespace tessera::sim
