#include "models/cost/sm_run.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <stdexcept>
#include <utility>

#include "kernels/tile/issue.hpp"

namespace tessera::cost {

namespace {

using tile::Op;
using tile::OpKind;

using tile::kPostCycles;
using tile::kPostedStores;
using tile::kThreadsPerWarp;
using tile::kVectorLatency;

constexpr double kNever = std::numeric_limits<double>::infinity();

}  // namespace

Figures SmRun::run(const tile::Kernel& kernel, std::uint32_t ctas, std::uint32_t stride,
                   const MemoryLatency& latency) {
  kernel_ = &kernel;
  latency_ = latency;
  arrivals_.clear();
  next_arrival_ = 0;
  free_.fill(0);
  sum_.fill(0);
  const tile::LaunchShape& shape = kernel.shape();
  const auto roles = static_cast<std::uint32_t>(shape.roles.size());
  ctas_.resize(std::max<std::size_t>(ctas_.size(), ctas));
  roles_.resize(std::max<std::size_t>(roles_.size(), std::size_t{ctas} * roles));
  goes_on_.assign(std::size_t{ctas} * roles, static_cast<double>(shape.prologue_cycles));
  tensor_turns_.reset(kFirstRole + goes_on_.size());
  shared_turns_.reset(kFirstRole + goes_on_.size());
  for (std::uint32_t c = 0; c < ctas; ++c) {
    Cta& cta = ctas_[c];
    const std::uint32_t index = c * stride;
    cta.id = {index, index % shape.cluster};
    cta.first_role = c * roles;
    cta.synced = 0;
    cta.sync_at = 0;
    cta.named = {};
    cta.barriers.clear();
    for (const tile::BarrierSpec& b : shape.barriers)
      cta.barriers.push_back({.pending = b.arrivals, .arrivals = b.arrivals});
    for (std::uint32_t r = 0; r < roles; ++r) {
      Role& role = roles_[cta.first_role + r];
      role.program = kernel.program(cta.id, r);
      role.cta = c;
      role.warps = shape.roles[r].warps;
      role.ready = static_cast<double>(shape.prologue_cycles);
      role.blocked = Blocked::no;
      role.tile_asked = role.issuing = false;
      role.tiles = 0;
      role.loads.issued = role.stores.issued = 0;
      role.loads.latest = role.stores.latest = 0;
    }
  }
  for (std::size_t left = goes_on_.size(); left > 0;) {
    // The role that is furthest behind goes on.
    std::size_t next = 0;
    for (std::size_t r = 1; r < goes_on_.size(); ++r)
      if (goes_on_[r] < goes_on_[next]) next = r;
    if (next_arrival_ < arrivals_.size() && arrivals_[next_arrival_].at <= goes_on_[next]) {
      land(arrivals_[next_arrival_++]);
      continue;
    }
    if (goes_on_[next] == kNever) throw std::logic_error{shape.name + ": its roles wait for each other"};
    Role& role = roles_[next];
    advance(role, static_cast<std::uint32_t>(next) - ctas_[role.cta].first_role);
    goes_on_[next] = role.blocked <= Blocked::products ? role.ready : kNever;
    if (role.blocked == Blocked::done) --left;
  }
  for (std::size_t r = 0; r < goes_on_.size(); ++r) sum_[cycles] = std::max(sum_[cycles], roles_[r].ready);
  return sum_;
}

void SmRun::advance(Role& role, std::uint32_t index) {
  double at = role.ready;
  if (role.blocked == Blocked::products) {
    // Others may have taken turns meanwhile.
    role.ready = std::max(at, product_done(products_of(role), role.awaited_product));
    if (role.ready > at) return;
    role.blocked = Blocked::no;
    at += kPostCycles;
  }
  bool again = false;  // the operation is there already
  if (role.blocked == Blocked::issue) {
    role.ready = std::max(at, tensor_turns_.last_turn_begins(products_of(role)));
    if (role.ready > at) return;
    role.blocked = Blocked::no;
    role.issuing = false;
    again = true;
  }
  const double stop = at + 4 * kPostCycles;
  for (;;) {
    if (!again && !role.program.advance()) {
      role.ready = std::max(at, role.stores.latest);
      role.blocked = Blocked::done;
      role.program = {};
      return;
    }
    if (const OpKind kind = role.program.op().kind; !again && kind != OpKind::item && kind != OpKind::trip)
      sum_[operations] += 1;
    again = false;
    if (role.issuing) {
      // A warp issues a wgmma when the tensor cores take it, so what follows in its program waits for their
      // turns.
      if (const Op& op = role.program.op(); op.kind != OpKind::wgmma_wait || op.count > 0) {
        if (const double issued = tensor_turns_.last_turn_begins(products_of(role)); issued > at) {
          role.blocked = Blocked::issue;
          role.ready = issued;
          return;
        }
      }
      role.issuing = false;
    }
    role.ready = at;
    if (!execute(role, index, role.program.op(), at)) return;
    role.ready = at;
    if (at > stop) return;
  }
}

void SmRun::land(const Arrival& a) {
  // What threads copy takes the banks from their loads, as it comes in; what the TMA brings does not.
  const double length = a.bytes / sm_.l1_fill_bytes_per_cycle;
  const double written =
      a.copied ? std::max(a.at, occupy_shared(kCopies, std::max(0.0, a.at - length), length)) : a.at;
  sum_[shared_bytes] += a.bytes;
  arrive(ctas_[a.cta], a.barrier, written + sm_.tma_completion_latency, 0, 0,
         static_cast<std::int64_t>(a.bytes));
}

void SmRun::wake(Cta& cta, std::uint32_t waiting, double at) {
  for (; waiting != 0; waiting &= waiting - 1) {
    const std::uint32_t index = cta.first_role + static_cast<std::uint32_t>(std::countr_zero(waiting));
    Role& role = roles_[index];
    role.blocked = Blocked::no;
    role.ready = std::max(role.ready, at);
    goes_on_[index] = role.ready;
  }
}

void SmRun::arrive(Cta& cta, std::uint8_t index, double at, std::int64_t arrivals, std::int64_t expected,
                   std::int64_t received) {
  Barrier& b = cta.barriers[index];
  b.pending -= arrivals;
  b.bytes += expected - received;
  b.latest = std::max(b.latest, at);
  if (b.pending != 0 || b.bytes != 0) return;
  ++b.phase;
  b.pending = b.arrivals;
  b.completed = b.latest;
  b.latest = 0;
  if (const std::uint32_t waiting = std::exchange(b.waiting, 0U); waiting != 0)
    wake(cta, waiting, b.completed + sm_.mbarrier_latency);
}

double SmRun::take_in(double at, double bytes, double bytes_per_cycle) {
  const double length = bytes / bytes_per_cycle;
  return occupy(ingress, std::max(0.0, at - length), length);
}

bool SmRun::execute(Role& role, std::uint32_t index, const Op& op, double& at) {
  Cta& cta = ctas_[role.cta];
  const double share = role.warps >= 4 ? 1.0 : role.warps / 4.0;
  const auto bytes = static_cast<double>(op.kind == OpKind::compute ? 0 : op.box.bytes());
  const double vector_bytes =
      16.0 * kThreadsPerWarp * sm_.subcores * share;  // one instruction of each warp in turn
  switch (op.kind) {
    case OpKind::expect:
      at += kPostCycles;
      arrive(cta, op.barrier, at, 1, static_cast<std::int64_t>(op.count), 0);
      return true;

    case OpKind::arrive: {
      at += kPostCycles;
      const bool here = op.rank == 0xff || op.rank == cta.id.rank;
      arrive(cta, op.barrier, here ? at : at + sm_.dsmem_latency, 1, 0, 0);
      return true;
    }

    case OpKind::wait: {
      Barrier& b = cta.barriers[op.barrier];
      if ((b.phase & 1U) != op.phase) {
        at = std::max(at, b.completed) + sm_.mbarrier_latency;
        return true;
      }
      b.waiting |= 1U << index;
      role.blocked = Blocked::barrier;
      return false;
    }

    case OpKind::named_sync:
    case OpKind::named_arrive: {
      NamedBarrier& b = cta.named[op.barrier];
      at += kPostCycles;
      b.latest = std::max(b.latest, at);
      const bool waits = op.kind == OpKind::named_sync;
      if (++b.arrived == op.count) {
        const double open = b.latest + sm_.named_barrier_latency;
        const std::uint32_t waiting = b.waiting;
        b = {};
        wake(cta, waiting, open);
        if (waits) at = open;
        return true;
      }
      if (!waits) return true;
      b.waiting |= 1U << index;
      role.blocked = Blocked::named;
      role.ready = at;
      return false;
    }

    case OpKind::tma_load: {
      at += kPostCycles;
      const double issued = occupy(tma, at, tile::tma_cycles(sm_, op));
      sum_[load_bytes] += bytes;
      sum_[l2_lines] += static_cast<double>(op.box.lines());
      // What is multicast comes from every CTA of the cluster alike.
      const double copies = op.cluster_mask == 0 ? 1 : std::popcount(op.cluster_mask);
      const double last = issued + sm_.tma_issue_latency + latency_.load;
      arrivals_.push_back({take_in(last, copies * bytes, sm_.ingress_bytes_per_cycle), role.cta, op.barrier,
                           copies * bytes, false});
      return true;
    }

    case OpKind::tma_store: {
      at += kPostCycles;
      const double issued = occupy(tma, at, tile::tma_cycles(sm_, op));
      const double read = access_shared(at, bytes) + sm_.tma_issue_latency;
      const double left = std::max({issued, read, occupy(egress, at, bytes / sm_.egress_bytes_per_cycle)});
      sum_[shared_bytes] += bytes;
      sum_[store_bytes] += bytes;
      sum_[l2_lines] += static_cast<double>(op.box.lines());
      role.stores.add(left + latency_.store);
      return true;
    }

    case OpKind::store_wait:
      at = std::max(at, role.stores.left(op.count));
      return true;

    case OpKind::wgmma: {
      const double flops = 2.0 * op.m * op.n * op.k;
      const double operands = 2.0 * op.k * (op.n + (op.a_in_registers ? 0.0 : static_cast<double>(op.m)));
      at += kPostCycles;
      const std::size_t me = products_of(role);
      const double multiplied = flops / sm_.tensor_flops_per_cycle;
      const double fetched = operands / sm_.shared_bytes_per_cycle;
      const std::uint32_t turns = tile::wgmma_instructions(op.m, op.k);
      role.issuing = true;
      tensor_turns_.add(me, at, turns, multiplied / turns);
      shared_turns_.add(me, at, fetched);
      sum_[tensor] += multiplied;
      sum_[shared] += fetched;
      sum_[tensor_flops] += flops;
      sum_[shared_bytes] += operands;
      return true;
    }

    case OpKind::wgmma_wait: {
      const std::size_t me = products_of(role);
      if (const std::uint32_t issued = tensor_turns_.requests(me); issued > op.count) {
        role.awaited_product = issued - 1 - static_cast<std::uint32_t>(op.count);
        if (const double done = product_done(me, role.awaited_product); done > at + kPostCycles) {
          role.blocked = Blocked::products;
          role.ready = done;
          return false;
        }
      }
      at += kPostCycles;
      return true;
    }

    case OpKind::mma: {
      const double flops = 2.0 * op.m * op.n * op.k, start = at;
      const double multiplied = flops / (sm_.mma_flops_per_cycle * share);
      at = tensor_turns_.reserve(kThreads, start, multiplied) + sm_.tensor_latency;
      sum_[tensor] += multiplied;
      sum_[tensor_flops] += flops;
      if (op.count > 0) {
        const auto moved = static_cast<double>(op.count);
        occupy(issue, start, moved / vector_bytes);
        at = std::max(at, access_shared(start, moved) + sm_.shared_latency);
        sum_[shared_bytes] += moved;
      }
      return true;
    }

    case OpKind::compute: {
      const tile::Vector& v = op.vector;
      const auto fma = static_cast<double>(v.fma), whole = static_cast<double>(v.integer),
                 special = static_cast<double>(v.mufu), conversions = static_cast<double>(v.convert),
                 shuffles = static_cast<double>(v.shuffle);
      const double start = at;
      const double alone = std::max({fma / sm_.fp32_lanes, whole / sm_.int_lanes,
                                     special / sm_.mufu_per_cycle, conversions / sm_.conversions_per_cycle});
      const double beside = std::max(0.0, tensor_turns_.free_at() - start);
      const double slow = 1 + (1 / sm_.wgmma_leaves_share - 1) * std::min(1.0, beside / std::max(1.0, alone));
      double end =
          occupy(issue, start,
                 (fma + whole + special + conversions + shuffles) / (kThreadsPerWarp * sm_.subcores * share));
      if (v.fma != 0) end = std::max(end, occupy(fp32, start, slow * fma / (sm_.fp32_lanes * share)));
      if (v.integer != 0) end = std::max(end, occupy(integer, start, slow * whole / (sm_.int_lanes * share)));
      if (v.mufu != 0)
        end = std::max(end, occupy(mufu, start, slow * special / (sm_.mufu_per_cycle * share)));
      if (v.convert != 0)
        end = std::max(end, occupy(convert, start, slow * conversions / (sm_.conversions_per_cycle * share)));
      if (v.shuffle != 0) {
        end = std::max(end, access_shared(start, 4.0 * shuffles));
        sum_[shared_bytes] += 4 * shuffles;
      }
      sum_[fp32_ops] += fma;
      sum_[mufu_ops] += special;
      at = std::max(end, start + slow * static_cast<double>(op.count)) +
           (op.last_in_group ? kVectorLatency : 0);
      return true;
    }

    case OpKind::l1_load:
    case OpKind::shared_load:
    case OpKind::shared_store: {
      const auto moved = static_cast<double>(op.count);
      occupy(issue, at, moved / vector_bytes);
      at = access_shared(at, moved) + (op.kind == OpKind::shared_load ? sm_.shared_latency
                                       : op.kind == OpKind::l1_load   ? sm_.l1_latency
                                                                      : kPostCycles);
      sum_[shared_bytes] += moved;
      return true;
    }

    case OpKind::load: {
      const double lines = static_cast<double>(op.box.lines());
      occupy(issue, at, bytes / vector_bytes);
      const double issued = occupy(lsu, at, lines);
      sum_[load_bytes] += bytes;
      sum_[l2_lines] += lines;
      role.loads.add(
          take_in(std::max(at, issued) + sm_.l1_latency + latency_.load, bytes, sm_.l1_fill_bytes_per_cycle));
      at = std::max(at + kPostCycles, issued - lines);
      return true;
    }

    case OpKind::async_load: {
      const double lines = static_cast<double>(op.box.lines());
      occupy(issue, at, bytes / vector_bytes);
      const double issued = occupy(lsu, at, lines);
      sum_[load_bytes] += bytes;
      sum_[l2_lines] += lines;
      // What comes last was asked for last, as the threads came to it.
      at = std::max(issued, at + static_cast<double>(op.count));
      const double in = take_in(at + sm_.l1_latency + latency_.load, bytes, sm_.l1_fill_bytes_per_cycle);
      arrivals_.push_back({in, role.cta, op.barrier, bytes, true});
      return true;
    }

    case OpKind::load_wait:
      at = std::max(at, role.loads.left(op.count));
      return true;

    case OpKind::store: {
      const double lines = static_cast<double>(op.box.lines());
      occupy(issue, at, bytes / vector_bytes);
      const double issued = occupy(lsu, at, lines);
      const double left = std::max(issued, occupy(egress, at, bytes / sm_.egress_bytes_per_cycle));
      sum_[store_bytes] += bytes;
      sum_[l2_lines] += lines;
      role.stores.add(left + sm_.l1_latency + latency_.store);
      at = std::max({at + kPostCycles, issued - lines, role.stores.left(kPostedStores)});
      return true;
    }

    case OpKind::chain:
      at += static_cast<double>(op.count);
      return true;

    case OpKind::prefetch_tile:
      role.tile_asked = true;
      role.tile_at = at + sm_.l1_latency + latency_.counter;
      at += kPostCycles;
      return true;

    case OpKind::item:
    case OpKind::trip:  // marks for sampling: nothing is passed over here
      role.program.set_result(0);
      return true;

    case OpKind::next_tile:
      // The other CTAs take tiles at the same pace.
      role.program.set_result(role.tiles++ * kernel_->shape().grid + cta.id.index);
      at = std::max(at, role.tile_asked ? role.tile_at : at + sm_.l1_latency + latency_.counter);
      role.tile_asked = false;
      return true;

    case OpKind::cluster_sync: {
      at += kPostCycles;
      cta.sync_at = std::max(cta.sync_at, at);
      const auto all = static_cast<std::uint32_t>(kernel_->shape().roles.size());
      cta.synced |= 1U << index;
      if (static_cast<std::uint32_t>(std::popcount(cta.synced)) < all) {
        role.blocked = Blocked::named;
        role.ready = at;
        return false;
      }
      const double open = cta.sync_at + sm_.dsmem_latency;
      const std::uint32_t waiting = std::exchange(cta.synced, 0U) & ~(1U << index);
      cta.sync_at = 0;
      wake(cta, waiting, open);
      at = open;
      return true;
    }
  }
  return true;
}

}  // namespace tessera::cost
