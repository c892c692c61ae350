#pragma once
// One streaming multiprocessor: runs the warp roles of its resident CTAs against its pipes.
//
// A role runs ahead through cheap operations (arrive, expect, issue) and books their effects at their
// own, slightly later times; it gives way to the event queue whenever an operation takes real time.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/tile/kernel.hpp"
#include "sim/core/even_pipe.hpp"
#include "sim/core/hardware.hpp"
#include "sim/core/pipe.hpp"
#include "sim/core/statistics.hpp"
#include "sim/core/turn_pipe.hpp"
#include "sim/gpu/sm/resident_cta.hpp"
#include "sim/gpu/sm/role_recorder.hpp"

namespace tessera::sim {

class Gpc;

class Sm {
 public:
  Sm(const SmSpec& spec, Gpc& gpc, std::uint8_t index);

  /// Tells `recorder` what its roles do, from the next kernel on.
  void record(RoleRecorder& recorder) { recorder_ = &recorder; }

  /// Makes room for the CTAs of `kernel`, of which at most `slots` are resident at a time.
  void prepare(const tile::Kernel& kernel, unsigned slots);
  void launch(Time now, std::uint8_t slot, tile::Cta cta, std::uint32_t cluster);
  /// Lets a role go on from `now`.
  void run(Time now, std::uint8_t slot, std::uint8_t role);

  /// `bytes` of a TMA load arrived for `barrier`.
  void tma_arrived(Time now, std::uint8_t slot, std::uint8_t barrier, std::uint32_t bytes, bool own_request,
                   bool copied);
  /// A load of `bytes` asked for by `role` arrived.
  void load_arrived(Time now, std::uint8_t slot, std::uint8_t role, std::uint32_t bytes);
  /// The L2 has taken a box that `role` stored.
  void store_taken(Time now, std::uint8_t slot, std::uint8_t role);
  void tile_fetched(Time now, std::uint8_t slot, std::uint8_t role, std::uint64_t tile);
  /// An arrival effective at `at`, from this or another CTA of the cluster.
  void arrive(Time at, std::uint8_t slot, std::uint8_t barrier, std::uint32_t arrivals, std::int64_t expected,
              std::int64_t received);
  /// The role stops waiting for its cluster.
  void leave_cluster_sync(Time at, std::uint8_t slot, std::uint8_t role);

  const ResidentCta& resident(std::uint8_t slot) const { return slots_[slot]; }
  /// Of what was simulated.
  const SmCounters& counters() const { return counters_; }
  /// Of trips that were passed over, as far as booked.
  const SmCounters& passed() const { return passed_; }
  /// From `at` on the SM stands still while trips are passed over: what would happen then happens later.
  void freeze(Time at, const PassedTrips::Pass& pass);
  bool frozen(Time now) const { return now >= frozen_from_ && now < frozen_from_ + frozen_for_; }
  /// How much later.
  Time frozen_for() const { return frozen_for_; }
  /// Books the passed trips up to `now` and tells how trips went since the last call.
  TripProgress take_progress(Time now);
  /// Time the tensor cores were busy, passed trips included.
  Time tensor_busy() const { return busy_with(tensor_.busy(), counters_.tensor_flops, passed_.tensor_flops); }
  void describe_stuck(const std::string& name, std::vector<std::string>& out) const;
  void report(const std::string& prefix, Statistics& statistics) const;

 private:
  /// Carries out the role's current operation at `at`; true if the role may go on (from `at`, updated).
  bool execute(RoleState& role, std::uint8_t slot, std::uint8_t index, const tile::Op& op, Time& at);
  /// A trip of a loop begins for `role` at `at`: times it, or passes over it and those that follow.
  void begin_trip(RoleState& role, std::uint8_t slot, std::uint8_t index, std::uint64_t alike, Time& at);
  /// A piece of work with `alike` trips begins for `role` at `at`: likewise.
  void begin_item(RoleState& role, std::uint8_t slot, std::uint8_t index, std::uint64_t alike, Time& at);
  /// The role is through with its piece of work.
  void end_item(RoleState& role, std::uint8_t index, Time at);
  /// What the foremost role may pass over from `at`: of `alike` trips as many as fit behind `before`, or a
  /// whole piece of work, if it fits. No trips: nothing.
  PassedTrips::Pass trips_to_pass(std::uint64_t alike, Time at, Time before) const;
  PassedTrips::Pass item_to_pass(std::uint64_t alike, Time at) const;
  /// Work of `trips` trips, and of a piece of work with as many.
  SmCounters work_of_trips(std::uint8_t role, double trips) const;
  SmCounters work_of_item(std::uint8_t role, double trips) const;
  PassedTrips& passed_trips(std::uint8_t slot);
  /// The role alone waits for as long as the pass takes.
  void pass_over(RoleState& role, std::size_t products, const PassedTrips::Pass& pass, const SmCounters& work,
                 Time& at);
  void run_role(Time now, std::uint8_t slot, std::uint8_t role);
  void run_on(Time now, std::uint8_t slot, std::uint8_t role);
  /// Assigns what was counted since the last call to the role that runs.
  void book_work(RoleState& role);
  /// Books what of the role's passed trips lies before `now`.
  void book_passed(RoleState& role, std::uint8_t index, Time now);
  /// A role's wgmmas in the turns of the tensor cores and, for their operands, of the shared memory.
  std::size_t products_of(std::uint8_t slot, std::uint8_t role) const {
    return kFirstRole + slot * kernel_->shape().roles.size() + role;
  }
  /// When the role's product of this number is there, as far as is known.
  Time product_done(std::size_t customer, std::uint32_t number) const {
    return max(tensor_.done(customer, number), shared_.done(customer, number)) + cycles(spec_.tensor_latency);
  }
  static Time busy_with(Time busy, double work, double passed_work);
  Time cycles(double n) const;
  Time occupy(Pipe& pipe, Time at, double cycles_of_work) { return pipe.reserve(at, cycles(cycles_of_work)); }
  /// The shared memory, for so many of the bytes that threads load and store; when it has served them.
  Time access_shared(Time at, double bytes) {
    return shared_.reserve(kThreads, at, cycles(bytes / spec_.shared_bytes_per_cycle));
  }
  /// When the last of `bytes` that reach the SM at `now` has come in through its crossbar port.
  Time take_in(Time now, std::uint32_t bytes, double bytes_per_cycle);
  void wake_waiting(std::uint8_t slot, std::uint16_t mask, Time at);
  void resume_at(Time at, std::uint8_t slot, std::uint8_t index, RoleState& role);
  void finish(Time at, std::uint8_t slot, RoleState& role);
  void retire(Time at, std::uint8_t slot);

  const SmSpec& spec_;
  Gpc& gpc_;
  std::uint8_t index_;
  const tile::Kernel* kernel_ = nullptr;
  std::vector<ResidentCta> slots_;
  // Who takes turns besides the roles' wgmmas: at the tensor cores all mma.sync one after the other, at the
  // shared memory what threads load and store, and what they copy into it.
  static constexpr std::size_t kThreads = 0, kCopies = 1, kFirstRole = 2;
  TurnPipe<Time> tensor_;
  EvenPipe<Time> shared_;
  Pipe fp32_, integer_, mufu_, convert_, issue_, lsu_, tma_, ingress_, egress_;
  SmCounters counters_;
  RoleRecorder* recorder_ = nullptr;
  std::uint64_t shared_arrivals_ = 0;  // bytes that loads wrote to shared memory

  bool watches_trips_ = false;
  SmCounters booked_;            // counters up to which work was assigned to roles
  std::vector<SeenParts> seen_;  // by role
  Time frozen_from_, frozen_for_;
  SmCounters passed_;
  TripProgress progress_;
};

}  // namespace tessera::sim
