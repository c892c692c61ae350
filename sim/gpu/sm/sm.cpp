#include "sim/gpu/sm/sm.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "kernels/tile/issue.hpp"
#include "sim/gpu/gpc.hpp"

namespace tessera::sim {

namespace {

using tile::Op;
using tile::OpKind;

using tile::kPostCycles;
using tile::kPostedStores;
using tile::kThreadsPerWarp;
using tile::kVectorLatency;

}  // namespace

Sm::Sm(const SmSpec& spec, Gpc& gpc, std::uint8_t index) : spec_{spec}, gpc_{gpc}, index_{index} {}

Time Sm::cycles(double n) const { return gpc_.clock().cycles_f(n); }

void Sm::prepare(const tile::Kernel& kernel, unsigned slots) {
  kernel_ = &kernel;
  slots_.clear();
  slots_.resize(slots);
  tensor_.make_room(kFirstRole + slots * kernel.shape().roles.size());
  shared_.make_room(kFirstRole + slots * kernel.shape().roles.size());
  watches_trips_ = gpc_.passes_trips() && kernel.shape().trips > 0;
  seen_.assign(kernel.shape().roles.size(), {});
  progress_ = {.passed_loads = progress_.passed_loads};  // trips since the last look are the last kernel's
  if (recorder_ != nullptr) recorder_->prepare(kernel.shape());
}

void Sm::launch(Time now, std::uint8_t slot, tile::Cta cta, std::uint32_t cluster) {
  const tile::LaunchShape& shape = kernel_->shape();
  ResidentCta& resident = slots_[slot];
  resident.cta = cta;
  resident.cluster = cluster;
  resident.roles_left = static_cast<std::uint32_t>(shape.roles.size());
  resident.barriers.clear();
  for (const tile::BarrierSpec& b : shape.barriers) resident.barriers.emplace_back(b.arrivals);
  resident.named = {};
  resident.passed = {};
  resident.roles.clear();
  resident.roles.resize(shape.roles.size());
  ++counters_.ctas;
  const Time start = now + cycles(static_cast<double>(shape.prologue_cycles));
  for (std::uint8_t r = 0; r < shape.roles.size(); ++r) {
    RoleState& role = resident.roles[r];
    role.program = kernel_->program(cta, r);
    role.warps = shape.roles[r].warps;
    gpc_.resume_at(start, index_, slot, r);
  }
}

void Sm::resume_at(Time at, std::uint8_t slot, std::uint8_t index, RoleState& role) {
  role.blocked = Blocked::no;
  ++counters_.operations_retired;  // the operation it was blocked on
  gpc_.resume_at(max(at, role.ready), index_, slot, index);
}

void Sm::wake_waiting(std::uint8_t slot, std::uint16_t mask, Time at) {
  while (mask != 0) {
    const auto index = static_cast<std::uint8_t>(std::countr_zero(mask));
    mask = static_cast<std::uint16_t>(mask & (mask - 1U));
    resume_at(at, slot, index, slots_[slot].roles[index]);
  }
}

void Sm::run(Time now, std::uint8_t slot, std::uint8_t index) {
  if (recorder_ == nullptr) return run_role(now, slot, index);
  recorder_->resume(now, slot, index);
  run_role(now, slot, index);
  const std::vector<RoleState>& roles = slots_[slot].roles;
  if (!roles.empty() && !roles[index].ended)
    recorder_->stop(roles[index].ready, slot, index, roles[index].program.op(), roles[index]);
}

void Sm::run_role(Time now, std::uint8_t slot, std::uint8_t index) {
  if (!watches_trips_) return run_on(now, slot, index);
  RoleState& role = slots_[slot].roles[index];
  TripState& trips = role.trips;
  if (trips.until > trips.from && now >= trips.until) {
    book_passed(role, index, now);
    tensor_.hold_until(now + trips.tensor_backlog);
    shared_.hold_until(now + trips.shared_backlog);
  }
  booked_ = counters_;
  run_on(now, slot, index);
  if (!slots_[slot].roles.empty()) book_work(role);
}

void Sm::run_on(Time now, std::uint8_t slot, std::uint8_t index) {
  RoleState& role = slots_[slot].roles[index];
  Time at = now;
  if (role.blocked == Blocked::products) {
    // Others may have taken turns meanwhile.
    if (const Time done = product_done(products_of(slot, index), role.awaited_product); done > now) {
      role.ready = now;
      return gpc_.resume_at(done, index_, slot, index);
    }
    role.blocked = Blocked::no;
    ++counters_.operations_retired;
    at += cycles(kPostCycles);
  }
  bool again = false;  // the operation is there already
  if (role.blocked == Blocked::issue) {
    if (const Time issued = tensor_.last_turn_begins(products_of(slot, index)); issued > now) {
      role.ready = now;
      return gpc_.resume_at(issued, index_, slot, index);
    }
    role.blocked = Blocked::no;
    role.issuing = false;
    again = true;
  }
  const Time stop = now + cycles(4 * kPostCycles);
  for (;;) {
    if (!std::exchange(again, false) && !role.program.advance()) {
      role.ended = true;
      role.ready = at;
      if (watches_trips_) end_item(role, index, at);
      if (role.stores_pending == 0)
        finish(at, slot, role);
      else
        role.blocked = Blocked::stores;
      return;
    }
    role.ready = at;
    if (role.issuing) {
      // A warp issues a wgmma when the tensor cores take it, so what follows in its program waits for their
      // turns.
      if (const Op& op = role.program.op(); op.kind != OpKind::wgmma_wait || op.count > 0) {
        if (const Time issued = tensor_.last_turn_begins(products_of(slot, index)); issued > at) {
          role.blocked = Blocked::issue;
          return gpc_.resume_at(issued, index_, slot, index);
        }
      }
      role.issuing = false;
    }
    if (const Op& op = role.program.op(); op.kind == OpKind::trip) {  // not an instruction
      begin_trip(role, slot, index, op.count, at);
    } else if (op.kind == OpKind::item) {
      begin_item(role, slot, index, op.count, at);
    } else {
      ++counters_.operations_issued;
      if (!execute(role, slot, index, op, at)) return;
      ++counters_.operations_retired;
    }
    if (at > stop) {
      gpc_.resume_at(at, index_, slot, index);
      return;
    }
  }
}

void Sm::book_work(RoleState& role) {
  role.trips.work += counters_ - booked_;
  booked_ = counters_;
}

PassedTrips& Sm::passed_trips(std::uint8_t slot) {
  return kernel_->shape().cluster > 1 ? gpc_.passed_trips(index_, slot) : slots_[slot].passed;
}

void Sm::begin_trip(RoleState& role, std::uint8_t slot, std::uint8_t index, std::uint64_t alike, Time& at) {
  role.program.set_result(0);
  if (!watches_trips_) return;
  TripState& trips = role.trips;
  SeenParts& seen = seen_[index];
  const bool last = index + 1U == seen_.size();
  book_work(role);
  // While others pass over trips nobody competes for the memory: a head is too short by so much.
  Time short_by;
  if (trips.place == TripState::Place::head) {
    if (gpc_.pass_order().until > at && seen.head.usual)
      short_by = max(Time{}, seen.head.mean_time() - (at - trips.begun));
    seen.head.add(at - trips.begun, trips.work, trips.usual_head);
  } else if (trips.place == TripState::Place::trip) {
    seen.trip.add(at - trips.begun, trips.work, true);
    if (last) {
      ++progress_.window.timed;
      progress_.window.time += at - trips.begun;
    }
  }
  trips.work = {};

  PassedTrips& passed = passed_trips(slot);
  const std::uint64_t call = trips.calls++;
  const PassedTrips::Pass* pass = passed.met(call, trips.passes);
  if (pass == nullptr && passed.foremost(call)) {
    if (const PassedTrips::Pass to_come = trips_to_pass(alike, at, short_by); to_come.trips > 0) {
      pass = passed.add(call, to_come);
      if (pass->frozen) {
        if (kernel_->shape().cluster > 1)
          gpc_.freeze_cluster(at, index_, slot, *pass);
        else
          freeze(at, *pass);
        at += pass->length;
      }
    }
  }
  if (last && (pass == nullptr || pass->trips < alike)) progress_.window.made += 1;
  if (pass == nullptr) {
    trips.place = TripState::Place::trip;
    trips.alike = alike;
    trips.begun = at;
    return;
  }
  role.program.set_result(pass->trips);
  trips.alike = alike - pass->trips;
  if (pass->frozen) {
    ++trips.passes;
    trips.place = trips.alike > 0 ? TripState::Place::trip : TripState::Place::passed;
    trips.each = Time{pass->length.fs / static_cast<std::int64_t>(pass->trips)};
    trips.begun = at;
    return;
  }
  trips.place = TripState::Place::passed;
  trips.each = Time{pass->length.fs / static_cast<std::int64_t>(pass->trips)};
  pass_over(role, products_of(slot, index), *pass, work_of_trips(index, static_cast<double>(pass->trips)),
            at);
  trips.begun = at;
}

void Sm::begin_item(RoleState& role, std::uint8_t slot, std::uint8_t index, std::uint64_t alike, Time& at) {
  role.program.set_result(0);
  if (!watches_trips_) return;
  TripState& trips = role.trips;
  end_item(role, index, at);

  PassedTrips& passed = passed_trips(slot);
  const std::uint64_t call = trips.calls++;
  const PassedTrips::Pass* pass = passed.met(call, trips.passes);
  if (pass == nullptr && passed.foremost(call)) {
    if (const PassedTrips::Pass to_come = item_to_pass(alike, at); to_come.trips > 0)
      pass = passed.add(call, to_come);
  }
  if (pass != nullptr) {
    role.program.set_result(1);
    return pass_over(role, products_of(slot, index), *pass, work_of_item(index, static_cast<double>(alike)),
                     at);
  }
  if (index + 1U == seen_.size()) {
    ++progress_.window.items;
    progress_.window.alike += alike;
  }
  trips.place = TripState::Place::head;
  trips.begun = at;
  trips.usual_head = gpc_.pass_order().until <= at && seen_[index].trip.count > 0;
}

void Sm::end_item(RoleState& role, std::uint8_t index, Time at) {
  TripState& trips = role.trips;
  SeenParts& seen = seen_[index];
  book_work(role);
  if (trips.place == TripState::Place::trip) {
    seen.tail.add(at - trips.begun, trips.work, true);
  } else if (trips.place == TripState::Place::passed && trips.alike == 0 && seen.trip.count > 0) {
    // A tail begins with the last of the alike trips, which was passed over.
    seen.tail.add(at - trips.begun + trips.each, trips.work.plus(seen.trip.mean_work(), 1), false);
  }
  trips.work = {};
  trips.place = TripState::Place::outside;
}

void Sm::pass_over(RoleState& role, std::size_t products, const PassedTrips::Pass& pass,
                   const SmCounters& work, Time& at) {
  TripState& trips = role.trips;
  ++trips.passes;
  trips.from = at;
  trips.until = at + pass.length;
  trips.trips = static_cast<double>(pass.trips);
  trips.passing = work;
  // What is on its way in this SM goes on as far behind the last passed trip as it was behind the one before
  // the first: else the role would gain a trip on it.
  trips.tensor_backlog = max(Time{}, tensor_.free_at() - at);
  trips.shared_backlog = max(Time{}, shared_.free_at() - at);
  tensor_.set_aside(products, at, pass.length);
  shared_.set_aside(products, at, pass.length);
  at = trips.until;
}

void Sm::freeze(Time at, const PassedTrips::Pass& pass) {
  frozen_from_ = at;
  frozen_for_ = pass.length;
  tensor_.stand_still(at, pass.length);
  shared_.stand_still(at, pass.length);
  for (Pipe* p : {&fp32_, &integer_, &mufu_, &convert_, &issue_, &lsu_, &tma_, &ingress_, &egress_}) {
    if (p->free_at() > at) p->hold_until(p->free_at() + pass.length);
  }
  const auto delay = [&](Time& t) {
    if (t > at) t += pass.length;
  };
  for (ResidentCta& cta : slots_) {
    for (Mbarrier& b : cta.barriers) b.delay(at, pass.length);
    for (NamedBarrier& b : cta.named) delay(b.latest);
    for (std::uint8_t r = 0; r < cta.roles.size(); ++r) {
      RoleState& role = cta.roles[r];
      delay(role.ready);
      delay(role.loads_ready);
      TripState& trips = role.trips;
      trips.begun += pass.length;
      book_passed(role, r, at);
      const SmCounters work = work_of_trips(r, static_cast<double>(pass.trips));
      if (trips.until > at) {  // the role passes over a whole piece of work: later, then
        trips.until += pass.length;
        trips.trips += static_cast<double>(pass.trips);
        trips.passing += work;
      } else {
        trips.until = at + pass.length;
        trips.trips = static_cast<double>(pass.trips);
        trips.passing = work;
        trips.tensor_backlog = trips.shared_backlog = {};
      }
      trips.from = at;
    }
  }
}

PassedTrips::Pass Sm::trips_to_pass(std::uint64_t alike, Time at, Time before) const {
  const PassOrder& order = gpc_.pass_order();
  if (order.until <= at) return {};
  for (const SeenParts& seen : seen_) {
    if (seen.trip.count == 0) return {};
  }
  const Time left = max(Time{}, order.until - at - before);
  const std::uint64_t n = std::min(alike, static_cast<std::uint64_t>(left.fs / order.each.fs));
  if (n < 2) return {};
  return {
      .trips = n, .length = before + order.each * static_cast<std::int64_t>(n), .frozen = slots_.size() == 1};
}

PassedTrips::Pass Sm::item_to_pass(std::uint64_t alike, Time at) const {
  const PassOrder& order = gpc_.pass_order();
  if (order.until <= at || alike == 0) return {};
  for (const SeenParts& seen : seen_) {
    if (seen.head.count == 0 || seen.trip.count == 0 || seen.tail.count == 0) return {};
  }
  const SeenParts& seen = seen_.back();
  const Time length =
      seen.head.mean_time() + order.each * static_cast<std::int64_t>(alike - 1) + seen.tail.mean_time();
  if (at + length > order.until) return {};
  return {.trips = alike, .length = length};
}

SmCounters Sm::work_of_trips(std::uint8_t role, double trips) const {
  const SeenPart& trip = seen_[role].trip;
  return trip.count == 0 ? SmCounters{} : trip.work.scaled(trips / static_cast<double>(trip.count));
}

SmCounters Sm::work_of_item(std::uint8_t role, double trips) const {
  const SeenParts& seen = seen_[role];
  if (seen.head.count == 0 || seen.trip.count == 0 || seen.tail.count == 0) return {};
  return seen.head.mean_work()
      .plus(seen.tail.mean_work(), 1)
      .plus(seen.trip.work, (trips - 1) / static_cast<double>(seen.trip.count));
}

void Sm::book_passed(RoleState& role, std::uint8_t index, Time now) {
  TripState& trips = role.trips;
  const Time end = min(now, trips.until);
  if (end <= trips.from) return;
  const double share = end == trips.until ? 1.0
                                          : static_cast<double>((end - trips.from).fs) /
                                                static_cast<double>((trips.until - trips.from).fs);
  SmCounters part = trips.passing.scaled(share);
  trips.passing -= part;
  part.operations_retired = part.operations_issued;
  // What is loaded also arrives.
  const auto loaded = static_cast<double>(part.load_bytes_requested);
  if (counters_.load_bytes_requested > 0) {
    const double per_byte = loaded / static_cast<double>(counters_.load_bytes_requested);
    part.load_bytes_received = part.load_bytes_requested;
    part.multicast_bytes_received = static_cast<std::uint64_t>(
        std::llround(static_cast<double>(counters_.multicast_bytes_received) * per_byte));
    part.shared_bytes +=
        static_cast<std::uint64_t>(std::llround(static_cast<double>(shared_arrivals_) * per_byte));
  }
  passed_ += part;
  progress_.passed_loads += loaded;
  if (index + 1U == seen_.size()) progress_.window.made += trips.trips * share;
  trips.trips *= 1 - share;
  trips.from = end;
}

TripProgress Sm::take_progress(Time now) {
  for (ResidentCta& cta : slots_) {
    for (std::uint8_t r = 0; r < cta.roles.size(); ++r) book_passed(cta.roles[r], r, now);
  }
  return std::exchange(progress_, {});
}

Time Sm::busy_with(Time busy, double work, double passed_work) {
  if (work <= 0 || passed_work <= 0) return busy;
  return Time{std::llround(static_cast<double>(busy.fs) * (1 + passed_work / work))};
}

bool Sm::execute(RoleState& role, std::uint8_t slot, std::uint8_t index, const Op& op, Time& at) {
  ResidentCta& cta = slots_[slot];
  const Requester self{.gpc = gpc_.index(), .sm = index_, .slot = slot, .role = index, .barrier = op.barrier};
  // Fewer than four warps reach only their own sub-cores' share of the pipes.
  const double share = role.warps >= 4 ? 1.0 : role.warps / 4.0;
  switch (op.kind) {
    case OpKind::expect:
      at += cycles(kPostCycles);
      arrive(at, slot, op.barrier, 1, static_cast<std::int64_t>(op.count), 0);
      return true;

    case OpKind::arrive:
      at += cycles(kPostCycles);
      if (op.rank == 0xff || op.rank == cta.cta.rank) {
        arrive(at, slot, op.barrier, 1, 0, 0);
      } else {
        gpc_.arrive_remote(at + cycles(spec_.dsmem_latency), index_, slot, op.barrier, op.rank);
      }
      return true;

    case OpKind::wait: {
      Mbarrier& barrier = cta.barriers[op.barrier];
      if (barrier.passed(op.phase)) {
        at = max(at, barrier.completed_at()) + cycles(spec_.mbarrier_latency);
        return true;
      }
      barrier.waiting = static_cast<std::uint16_t>(barrier.waiting | (1U << index));
      role.blocked = Blocked::mbarrier;
      role.blocked_on = op.barrier;
      return false;
    }

    case OpKind::named_sync:
    case OpKind::named_arrive: {
      NamedBarrier& barrier = cta.named[op.barrier];
      at += cycles(kPostCycles);
      barrier.latest = max(barrier.latest, at);
      ++barrier.arrived;
      const bool waits = op.kind == OpKind::named_sync;
      if (barrier.arrived == op.count) {
        const Time open = barrier.latest + cycles(spec_.named_barrier_latency);
        const std::uint16_t waiting = barrier.waiting;
        barrier = {};
        wake_waiting(slot, waiting, open);
        if (waits) at = open;
        return true;
      }
      if (!waits) return true;
      barrier.waiting = static_cast<std::uint16_t>(barrier.waiting | (1U << index));
      role.blocked = Blocked::named_barrier;
      role.blocked_on = op.barrier;
      return false;
    }

    case OpKind::tma_load: {
      at += cycles(kPostCycles);
      const double length = tile::tma_cycles(spec_, op);
      const Time issued = occupy(tma_, at, length);
      const Time first = issued - cycles(length);
      L2Event request{.kind = L2Event::Kind::read, .from = self, .box = op.box};
      request.from.tma = true;
      request.from.promote = op.promote;
      request.from.cluster_mask = op.cluster_mask;
      counters_.load_bytes_requested += op.box.bytes();
      const Time leaves = max(at, first) + cycles(spec_.tma_issue_latency);
      gpc_.to_l2.send_at(at, leaves + gpc_.to_l2.latency(), request);
      return true;
    }

    case OpKind::tma_store: {
      at += cycles(kPostCycles);
      const auto bytes = static_cast<double>(op.box.bytes());
      const Time issued = occupy(tma_, at, tile::tma_cycles(spec_, op));
      const Time read = access_shared(at, bytes) + cycles(spec_.tma_issue_latency);
      const Time left = max(max(issued, read), occupy(egress_, at, bytes / spec_.egress_bytes_per_cycle));
      ++role.stores_pending;
      counters_.shared_bytes += op.box.bytes();
      counters_.store_bytes += op.box.bytes();
      gpc_.to_l2.send_at(at, left + gpc_.to_l2.latency(),
                         L2Event{.kind = L2Event::Kind::write, .from = self, .box = op.box});
      return true;
    }

    case OpKind::store_wait:
      // The shared memory is read as fast as the L2 takes the data.
      if (role.stores_pending <= op.count) return true;
      role.blocked = Blocked::stores;
      role.stores_allowed = static_cast<std::uint32_t>(op.count);
      return false;

    case OpKind::wgmma: {
      const double flops = 2.0 * op.m * op.n * op.k;
      // Operands from shared memory: B is broadcast to the four sub-cores, A goes to each its own rows.
      const double bytes = 2.0 * op.k * (op.n + (op.a_in_registers ? 0.0 : static_cast<double>(op.m)));
      at += cycles(kPostCycles);
      const std::size_t me = products_of(slot, index);
      shared_.add(me, at, cycles(bytes / spec_.shared_bytes_per_cycle));
      const std::uint32_t turns = tile::wgmma_instructions(op.m, op.k);
      role.issuing = true;
      tensor_.add(me, at, turns, cycles(flops / (spec_.tensor_flops_per_cycle * turns)));
      counters_.tensor_flops += flops;
      counters_.shared_bytes += static_cast<std::uint64_t>(bytes);
      return true;
    }

    case OpKind::wgmma_wait: {
      const std::size_t me = products_of(slot, index);
      if (const std::uint32_t issued = tensor_.requests(me); issued > op.count) {
        role.awaited_product = issued - 1 - static_cast<std::uint32_t>(op.count);
        if (const Time done = product_done(me, role.awaited_product); done > at + cycles(kPostCycles)) {
          role.blocked = Blocked::products;
          gpc_.resume_at(done, index_, slot, index);
          return false;
        }
      }
      at += cycles(kPostCycles);
      return true;
    }

    case OpKind::mma: {
      // mma.sync: operands are in registers already; a warp waits for its own results.
      const double flops = 2.0 * op.m * op.n * op.k;
      const Time start = at;
      at = tensor_.reserve(kThreads, start, cycles(flops / (spec_.mma_flops_per_cycle * share))) +
           cycles(spec_.tensor_latency);
      counters_.tensor_flops += flops;
      if (op.count > 0) {
        const auto bytes = static_cast<double>(op.count);
        occupy(issue_, start, bytes / (16.0 * kThreadsPerWarp * spec_.subcores * share));
        const Time loaded = access_shared(start, bytes);
        at = max(at, loaded + cycles(spec_.shared_latency));
        counters_.shared_bytes += op.count;
      }
      return true;
    }

    case OpKind::compute: {
      const tile::Vector& v = op.vector;
      const auto fma = static_cast<double>(v.fma);
      const auto integer = static_cast<double>(v.integer);
      const auto mufu = static_cast<double>(v.mufu);
      const auto convert = static_cast<double>(v.convert);
      const auto shuffle = static_cast<double>(v.shuffle);
      const Time start = at;
      // While a product runs, it takes its share of the register bandwidth: the pipes then get fewer
      // operands.
      const double alone = std::max({fma / spec_.fp32_lanes, integer / spec_.int_lanes,
                                     mufu / spec_.mufu_per_cycle, convert / spec_.conversions_per_cycle});
      const double beside = tensor_.free_at() > start ? gpc_.clock().in_cycles(tensor_.free_at() - start) : 0;
      const double slow =
          1 + (1 / spec_.wgmma_leaves_share - 1) * std::min(1.0, beside / std::max(1.0, alone));
      // Each sub-core issues one warp instruction per cycle, whatever pipe it goes to.
      Time end =
          occupy(issue_, start,
                 (fma + integer + mufu + convert + shuffle) / (kThreadsPerWarp * spec_.subcores * share));
      if (v.fma != 0) end = max(end, occupy(fp32_, start, slow * fma / (spec_.fp32_lanes * share)));
      if (v.integer != 0) end = max(end, occupy(integer_, start, slow * integer / (spec_.int_lanes * share)));
      if (v.mufu != 0) end = max(end, occupy(mufu_, start, slow * mufu / (spec_.mufu_per_cycle * share)));
      if (v.convert != 0)
        end = max(end, occupy(convert_, start, slow * convert / (spec_.conversions_per_cycle * share)));
      if (v.shuffle != 0) {
        // A shuffle moves four bytes per lane through the shared-memory crossbar.
        end = max(end, access_shared(start, 4.0 * shuffle));
        counters_.shared_bytes += 4 * v.shuffle;
      }
      counters_.fp32_ops += fma;
      counters_.integer_ops += integer;
      counters_.mufu_ops += mufu;
      at = max(end, start + cycles(slow * static_cast<double>(op.count)));
      if (op.last_in_group) at += cycles(kVectorLatency);
      return true;
    }

    case OpKind::l1_load:
    case OpKind::shared_load:
    case OpKind::shared_store: {
      const auto bytes = static_cast<double>(op.count);
      occupy(issue_, at, bytes / (16.0 * kThreadsPerWarp * spec_.subcores * share));
      at = access_shared(at, bytes) + cycles(op.kind == OpKind::shared_load ? spec_.shared_latency
                                             : op.kind == OpKind::l1_load   ? spec_.l1_latency
                                                                            : kPostCycles);
      counters_.shared_bytes += op.count;
      return true;
    }

    case OpKind::load: {
      // 16 B per thread: one warp instruction asks for 512 B; the load-store unit takes a line a cycle.
      const auto lines = static_cast<double>(op.box.lines());
      occupy(issue_, at,
             static_cast<double>(op.box.bytes()) / (16.0 * kThreadsPerWarp * spec_.subcores * share));
      const Time issued = occupy(lsu_, at, lines);
      const Time first = issued - cycles(lines);
      L2Event request{.kind = L2Event::Kind::read, .from = self, .box = op.box};
      ++role.loads_pending;
      counters_.load_bytes_requested += op.box.bytes();
      gpc_.to_l2.send_at(at, max(at, first) + cycles(spec_.l1_latency) + gpc_.to_l2.latency(), request);
      at = max(at + cycles(kPostCycles), first);
      return true;
    }

    case OpKind::async_load: {
      const auto lines = static_cast<double>(op.box.lines());
      occupy(issue_, at,
             static_cast<double>(op.box.bytes()) / (16.0 * kThreadsPerWarp * spec_.subcores * share));
      const Time issued = occupy(lsu_, at, lines);
      L2Event request{.kind = L2Event::Kind::read, .from = self, .box = op.box};
      request.from.tma = true;  // the bytes count towards the barrier
      request.from.copied = true;
      counters_.load_bytes_requested += op.box.bytes();
      // The copies are asked for as the threads come to them: what comes last was asked for last.
      const Time copied = at + cycles(static_cast<double>(op.count));
      const Time stream = cycles(static_cast<double>(op.box.bytes()) / spec_.ingress_bytes_per_cycle);
      const Time first = max(max(at, issued - cycles(lines)), copied - min(stream, copied - at));
      gpc_.to_l2.send_at(at, first + cycles(spec_.l1_latency) + gpc_.to_l2.latency(), request);
      at = max(issued, copied);
      return true;
    }

    case OpKind::load_wait:
      if (role.loads_pending <= op.count) {
        at = max(at, role.loads_ready);
        return true;
      }
      role.blocked = Blocked::loads;
      role.loads_allowed = static_cast<std::uint32_t>(op.count);
      return false;

    case OpKind::store: {
      const auto bytes = static_cast<double>(op.box.bytes());
      occupy(issue_, at, bytes / (16.0 * kThreadsPerWarp * spec_.subcores * share));
      const Time issued = occupy(lsu_, at, static_cast<double>(op.box.lines()));
      const Time left = max(issued, occupy(egress_, at, bytes / spec_.egress_bytes_per_cycle));
      counters_.store_bytes += op.box.bytes();
      gpc_.to_l2.send_at(at, left + cycles(spec_.l1_latency) + gpc_.to_l2.latency(),
                         L2Event{.kind = L2Event::Kind::write, .from = self, .box = op.box});
      at = max(at + cycles(kPostCycles), issued - cycles(static_cast<double>(op.box.lines())));
      if (++role.stores_pending <= kPostedStores) return true;
      role.blocked = Blocked::stores;
      role.stores_allowed = kPostedStores;
      role.ready = at;
      return false;
    }

    case OpKind::chain:
      at += cycles(static_cast<double>(op.count));
      return true;

    case OpKind::prefetch_tile:
      role.tile_asked = true;
      role.tile_here = false;
      gpc_.to_l2.send_at(at, at + cycles(spec_.l1_latency) + gpc_.to_l2.latency(),
                         L2Event{.kind = L2Event::Kind::atomic, .from = self});
      at += cycles(kPostCycles);
      return true;

    case OpKind::next_tile:
      if (role.tile_here) {
        role.program.set_result(role.tile);
        role.tile_asked = role.tile_here = false;
        return true;
      }
      role.blocked = Blocked::tile_counter;
      if (!role.tile_asked) {
        gpc_.to_l2.send_at(at, at + cycles(spec_.l1_latency) + gpc_.to_l2.latency(),
                           L2Event{.kind = L2Event::Kind::atomic, .from = self});
      }
      return false;

    case OpKind::cluster_sync:
      role.blocked = Blocked::cluster;
      gpc_.sync_cluster(at + cycles(kPostCycles), index_, slot, index);
      return false;

    case OpKind::item:
    case OpKind::trip:  // run_on sees to them
      return true;
  }
  return true;
}

void Sm::arrive(Time at, std::uint8_t slot, std::uint8_t index, std::uint32_t arrivals, std::int64_t expected,
                std::int64_t received) {
  Mbarrier& barrier = slots_[slot].barriers[index];
  if (!barrier.book(at, arrivals, expected, received)) return;
  const std::uint16_t waiting = std::exchange(barrier.waiting, std::uint16_t{0});
  if (waiting == 0) return;
  wake_waiting(slot, waiting, barrier.completed_at() + cycles(spec_.mbarrier_latency));
}

Time Sm::take_in(Time now, std::uint32_t bytes, double bytes_per_cycle) {
  // The reply stands for a stream that ends now: it may have occupied the port up to its length earlier.
  const Time length = cycles(bytes / bytes_per_cycle);
  return max(now, ingress_.reserve(max(Time{}, now - length), length));
}

void Sm::tma_arrived(Time now, std::uint8_t slot, std::uint8_t barrier, std::uint32_t bytes, bool own_request,
                     bool copied) {
  if (own_request)
    counters_.load_bytes_received += bytes;
  else
    counters_.multicast_bytes_received += bytes;
  counters_.shared_bytes += bytes;
  shared_arrivals_ += bytes;
  // What threads copy takes the banks from their loads. What the TMA brings does not: in GEMMs of one wave of
  // 64 x 64 tiles on an H200, wgmma reads and the TMA writes 161 B per cycle together.
  const Time in = take_in(now, bytes, copied ? spec_.l1_fill_bytes_per_cycle : spec_.ingress_bytes_per_cycle);
  // The banks are asked for now, whatever waits at the port: a reservation ahead of time would hold up
  // others.
  const Time written =
      copied ? max(in, shared_.reserve(kCopies, now, cycles(bytes / spec_.l1_fill_bytes_per_cycle))) : in;
  arrive(written + cycles(spec_.tma_completion_latency), slot, barrier, 0, 0, bytes);
}

void Sm::load_arrived(Time now, std::uint8_t slot, std::uint8_t index, std::uint32_t bytes) {
  RoleState& role = slots_[slot].roles[index];
  counters_.load_bytes_received += bytes;
  --role.loads_pending;
  role.loads_ready = take_in(now, bytes, spec_.l1_fill_bytes_per_cycle);
  if (role.blocked == Blocked::loads && role.loads_pending <= role.loads_allowed) {
    resume_at(role.loads_ready, slot, index, role);
  }
}

void Sm::store_taken(Time now, std::uint8_t slot, std::uint8_t index) {
  RoleState& role = slots_[slot].roles[index];
  --role.stores_pending;
  if (role.blocked != Blocked::stores) return;
  if (role.ended) {
    if (role.stores_pending == 0) finish(max(now, role.ready), slot, role);
  } else if (role.stores_pending <= role.stores_allowed) {
    resume_at(now, slot, index, role);
  }
}

void Sm::tile_fetched(Time now, std::uint8_t slot, std::uint8_t index, std::uint64_t tile) {
  RoleState& role = slots_[slot].roles[index];
  if (role.blocked == Blocked::tile_counter) {
    role.program.set_result(tile);
    role.tile_asked = false;
    resume_at(now, slot, index, role);
  } else {
    role.tile_here = true;
    role.tile = tile;
  }
}

void Sm::leave_cluster_sync(Time at, std::uint8_t slot, std::uint8_t index) {
  resume_at(at, slot, index, slots_[slot].roles[index]);
}

void Sm::finish(Time at, std::uint8_t slot, RoleState& role) {
  role.blocked = Blocked::no;
  role.done = true;
  role.ready = at;
  if (--slots_[slot].roles_left == 0) retire(at, slot);
}

void Sm::retire(Time at, std::uint8_t slot) {
  ResidentCta& cta = slots_[slot];
  for (RoleState& r : cta.roles) at = max(at, r.ready);
  cta.roles.clear();
  gpc_.cta_done(at, index_, slot);
}

void Sm::describe_stuck(const std::string& name, std::vector<std::string>& out) const {
  for (const ResidentCta& cta : slots_) {
    for (std::size_t r = 0; r < cta.roles.size(); ++r) {
      const RoleState& role = cta.roles[r];
      if (role.done) continue;
      const std::string who =
          fmt::format("{}: CTA {} {}", name, cta.cta.index, kernel_->shape().roles[r].name);
      switch (role.blocked) {
        case Blocked::mbarrier: {
          const Mbarrier& b = cta.barriers[role.blocked_on];
          out.push_back(fmt::format("{} waits for barrier {} (phase {}: {} arrivals and {} bytes missing)",
                                    who, name_of(kernel_->shape().barriers[role.blocked_on]), b.phase(),
                                    b.pending_arrivals(), b.missing_bytes()));
          break;
        }
        case Blocked::named_barrier:
          out.push_back(fmt::format("{} waits at named barrier {} ({} arrived)", who, role.blocked_on,
                                    cta.named[role.blocked_on].arrived));
          break;
        case Blocked::loads:
          out.push_back(fmt::format("{} waits for loads ({} pending)", who, role.loads_pending));
          break;
        case Blocked::stores:
          out.push_back(fmt::format("{} waits for stores ({} pending)", who, role.stores_pending));
          break;
        case Blocked::issue:
          out.push_back(fmt::format("{} issues a product", who));
          break;
        case Blocked::products:
          out.push_back(fmt::format("{} waits for a product", who));
          break;
        case Blocked::tile_counter:
          out.push_back(fmt::format("{} waits for the tile counter", who));
          break;
        case Blocked::cluster:
          out.push_back(fmt::format("{} waits for its cluster {}", who, cta.cluster));
          break;
        case Blocked::no:
          out.push_back(fmt::format("{} was never resumed", who));
          break;
      }
    }
  }
}

void Sm::report(const std::string& prefix, Statistics& statistics) const {
  SmCounters all = counters_;
  all += passed_;
  statistics.add(prefix + "ctas", static_cast<double>(all.ctas));
  statistics.add(prefix + "operations_issued", static_cast<double>(all.operations_issued));
  statistics.add(prefix + "operations_retired", static_cast<double>(all.operations_retired));
  statistics.add(prefix + "tensor_flops", all.tensor_flops);
  statistics.add(prefix + "fp32_ops", all.fp32_ops);
  statistics.add(prefix + "integer_ops", all.integer_ops);
  statistics.add(prefix + "mufu_ops", all.mufu_ops);
  statistics.add(prefix + "shared_bytes", static_cast<double>(all.shared_bytes));
  statistics.add(prefix + "load_bytes_requested", static_cast<double>(all.load_bytes_requested));
  statistics.add(prefix + "load_bytes_received", static_cast<double>(all.load_bytes_received));
  statistics.add(prefix + "multicast_bytes_received", static_cast<double>(all.multicast_bytes_received));
  statistics.add(prefix + "store_bytes", static_cast<double>(all.store_bytes));
  // Passed trips kept each pipe busy as they kept what drives it.
  const auto busy = [&](const char* name, const auto& pipe, double work, double passed_work) {
    statistics.add(prefix + "busy_us." + name, busy_with(pipe.busy(), work, passed_work).us());
  };
  const auto real = [](std::uint64_t n) { return static_cast<double>(n); };
  const SmCounters& c = counters_;
  const SmCounters& p = passed_;
  busy("tensor", tensor_, c.tensor_flops, p.tensor_flops);
  busy("fp32", fp32_, c.fp32_ops, p.fp32_ops);
  busy("integer", integer_, c.integer_ops, p.integer_ops);
  busy("mufu", mufu_, c.mufu_ops, p.mufu_ops);
  busy("convert", convert_, c.mufu_ops, p.mufu_ops);
  busy("issue", issue_, real(c.operations_issued), real(p.operations_issued));
  busy("shared", shared_, real(c.shared_bytes), real(p.shared_bytes));
  busy("lsu", lsu_, real(c.load_bytes_requested), real(p.load_bytes_requested));
  busy("tma", tma_, real(c.load_bytes_requested), real(p.load_bytes_requested));
  busy("ingress", ingress_, real(c.load_bytes_received), real(p.load_bytes_received));
  busy("egress", egress_, real(c.store_bytes), real(p.store_bytes));
}

}  // namespace tessera::sim
