#pragma once
// Runs a kernel's tile programs without time: every role of every CTA in turn until it blocks. Counts what
// they ask for, notes which bytes they store, and fails if they deadlock.

#include <array>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <utility>
#include <vector>

#include "kernels/tile/kernel.hpp"

namespace tessera::tile::testing {

struct Counts {
  double tensor_flops = 0;
  std::uint64_t mufu = 0, loaded = 0, stored = 0;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> stores;  ///< [first, last) byte runs
};

inline Counts count(const Kernel& kernel) {
  struct Barrier {
    std::int64_t pending = 0, bytes = 0;
    unsigned phase = 0;
  };
  struct Role {
    Program program;
    bool started = false, done = false, synced = false;
  };
  struct CtaState {
    std::vector<Role> roles;
    std::vector<Barrier> barriers;
    std::array<std::uint32_t, 16> named{};        // arrivals so far
    std::array<std::uint32_t, 16> named_phase{};  // completed meetings
    std::vector<std::int64_t> meeting;            // per role: the named phase it waits for, -1 none
  };
  const LaunchShape& shape = kernel.shape();
  Counts counts;
  std::vector<CtaState> ctas(shape.grid);
  for (std::uint32_t c = 0; c < shape.grid; ++c) {
    for (const BarrierSpec& b : shape.barriers) ctas[c].barriers.push_back({b.arrivals, 0, 0});
    for (std::uint32_t r = 0; r < shape.roles.size(); ++r) {
      ctas[c].roles.push_back({kernel.program({c, c % shape.cluster}, r)});
    }
    ctas[c].meeting.assign(shape.roles.size(), -1);
  }
  const auto settle = [&](Barrier& b, std::uint32_t arrivals) {
    if (b.pending == 0 && b.bytes == 0) {
      ++b.phase;
      b.pending = arrivals;
    }
  };
  const auto store = [&](const Box& box) {
    counts.stored += box.bytes();
    for (std::uint32_t row = 0; row < box.rows; ++row) {
      counts.stores.emplace_back(box.address + row * box.pitch,
                                 box.address + row * box.pitch + box.row_bytes);
    }
  };
  std::uint64_t tile = 0;
  bool progress = true;
  while (progress) {
    progress = false;
    for (std::uint32_t c = 0; c < shape.grid; ++c) {
      CtaState& cta = ctas[c];
      const std::uint32_t first = c - c % shape.cluster;
      for (std::uint32_t r = 0; r < cta.roles.size(); ++r) {
        Role& role = cta.roles[r];
        while (!role.done) {
          if (role.started) {  // may the current operation complete?
            const Op& op = role.program.op();
            if (op.kind == OpKind::wait && (cta.barriers[op.barrier].phase & 1U) == op.phase) break;
            if (op.kind == OpKind::named_sync &&
                cta.named_phase[op.barrier] <= static_cast<std::uint64_t>(cta.meeting[r]))
              break;
            if (op.kind == OpKind::cluster_sync) {
              std::size_t there = 0;
              for (std::uint32_t k = first; k < first + shape.cluster; ++k) {
                for (const Role& other : ctas[k].roles) there += other.synced || other.done ? 1U : 0U;
              }
              if (role.synced && there < shape.cluster * cta.roles.size()) break;
              if (role.synced) {
                for (std::uint32_t k = first; k < first + shape.cluster; ++k) {
                  for (Role& other : ctas[k].roles) other.synced = false;
                }
              }
            }
          }
          progress = true;
          role.started = true;
          if (!role.program.advance()) {
            role.done = true;
            break;
          }
          const Op& op = role.program.op();
          switch (op.kind) {
            case OpKind::tma_load:
            case OpKind::async_load:
              counts.loaded += op.box.bytes();
              for (std::uint32_t k = 0; k < shape.cluster; ++k) {
                const bool reaches = op.cluster_mask == 0 ? first + k == c : (op.cluster_mask >> k & 1U) != 0;
                if (!reaches) continue;
                Barrier& b = ctas[first + k].barriers[op.barrier];
                b.bytes -= static_cast<std::int64_t>(op.box.bytes());
                settle(b, shape.barriers[op.barrier].arrivals);
              }
              break;
            case OpKind::expect:
            case OpKind::arrive: {
              const std::uint32_t to = op.kind == OpKind::arrive && op.rank != 0xff ? first + op.rank : c;
              Barrier& b = ctas[to].barriers[op.barrier];
              --b.pending;
              if (op.kind == OpKind::expect) b.bytes += static_cast<std::int64_t>(op.count);
              if (b.pending < 0)
                throw std::logic_error{"more arrivals than a phase has: " +
                                       name_of(shape.barriers[op.barrier])};
              settle(b, shape.barriers[op.barrier].arrivals);
              break;
            }
            case OpKind::named_sync:
            case OpKind::named_arrive:
              cta.meeting[r] = cta.named_phase[op.barrier];
              if (++cta.named[op.barrier] == op.count) {
                cta.named[op.barrier] = 0;
                ++cta.named_phase[op.barrier];
              }
              break;
            case OpKind::cluster_sync:
              role.synced = true;
              break;
            case OpKind::wgmma:
            case OpKind::mma:
              counts.tensor_flops += 2.0 * op.m * op.n * op.k;
              break;
            case OpKind::compute:
              counts.mufu += op.vector.mufu;
              break;
            case OpKind::load:
              counts.loaded += op.box.bytes();
              break;
            case OpKind::store:
            case OpKind::tma_store:
              store(op.box);
              break;
            case OpKind::next_tile:
              role.program.set_result(tile++);
              break;
            case OpKind::item:
            case OpKind::trip:
              role.program.set_result(0);
              break;
            default:
              break;
          }
        }
      }
    }
  }
  for (const CtaState& cta : ctas) {
    for (const Role& role : cta.roles) {
      if (!role.done) throw std::logic_error{shape.name + ": a role never ends"};
    }
  }
  return counts;
}

}  // namespace tessera::tile::testing
