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
#include "sim/core/hardware.hpp"
#include "sim/core/pipe.hpp"
#include "sim/core/statistics.hpp"
#include "sim/gpu/sm/resident_cta.hpp"

namespace tessera::sim {

class Gpc;

/// Work done by one SM, for statistics, utilisation and energy.
struct SmCounters {
  std::uint64_t operations_issued = 0, operations_retired = 0;
  double tensor_flops = 0, fp32_ops = 0, integer_ops = 0, mufu_ops = 0;
  std::uint64_t shared_bytes = 0;
  std::uint64_t load_bytes_requested = 0, load_bytes_received = 0, store_bytes = 0;
  std::uint64_t multicast_bytes_received = 0;  ///< received, but requested by another CTA of the cluster
  std::uint64_t ctas = 0;
};

class Sm {
 public:
  Sm(const SmSpec& spec, Gpc& gpc, std::uint8_t index);

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
  const SmCounters& counters() const { return counters_; }
  Time tensor_busy() const { return tensor_.busy(); }
  void describe_stuck(const std::string& name, std::vector<std::string>& out) const;
  void report(const std::string& prefix, Statistics& statistics) const;

 private:
  /// Carries out the role's current operation at `at`; true if the role may go on (from `at`, updated).
  bool execute(RoleState& role, std::uint8_t slot, std::uint8_t index, const tile::Op& op, Time& at);
  Time cycles(double n) const;
  Time occupy(Pipe& pipe, Time at, double cycles_of_work) { return pipe.reserve(at, cycles(cycles_of_work)); }
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
  Pipe tensor_, fp32_, integer_, mufu_, convert_, issue_, shared_, lsu_, tma_, ingress_, egress_;
  SmCounters counters_;
};

}  // namespace tessera::sim
