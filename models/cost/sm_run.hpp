#pragma once
// The demands of tile programs: the programs of the CTAs that share an SM are run against the SM's pipes,
// with the memory behind it as a latency. No events, no other SMs, no caches: what comes out are sums over
// the programs, and the longest chain of dependent operations through pipes and barriers. The rules are those
// of sim/gpu/sm.
//
// CTAs of a cluster are alike: what one sends to the others, it is taken to get from them at the same time.
// So one CTA stands for its cluster.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/tile/kernel.hpp"
#include "sim/core/even_pipe.hpp"
#include "sim/core/hardware.hpp"
#include "sim/core/turn_pipe.hpp"

namespace tessera::cost {

/// What is counted. The first ones are cycles in which a pipe is busy.
enum Figure : std::size_t {
  tensor,
  fp32,
  integer,
  mufu,
  convert,
  issue,
  shared,
  lsu,
  tma,
  ingress,
  egress,
  pipes,           ///< how many pipes there are
  cycles = pipes,  ///< from the first role's first operation to the end of the last CTA
  tensor_flops,
  fp32_ops,
  mufu_ops,
  shared_bytes,
  load_bytes,   ///< asked of the L2
  store_bytes,  ///< sent to it
  l2_lines,     ///< that it looks up for either
  operations,
  figures  ///< how many figures there are
};
using Figures = std::array<double, figures>;

/// The memory as one SM sees it, in SM cycles: unloaded.
struct MemoryLatency {
  double load = 0;     ///< the request leaves the SM, to the first line's arrival
  double store = 0;    ///< the last byte leaves the SM, to the news that the L2 has taken it
  double counter = 0;  ///< a tile counter's answer
};

/// Runs tile programs. Keeps its buffers from run to run, so that a run allocates nothing but coroutine
/// frames.
class SmRun {
 public:
  explicit SmRun(const SmSpec& sm) : sm_{sm} {}

  /// CTAs 0, stride, 2 stride, ... (`ctas` of them) of the kernel, all on one SM from the start. Throws
  /// std::logic_error if they wait for each other.
  Figures run(const tile::Kernel& kernel, std::uint32_t ctas, std::uint32_t stride,
              const MemoryLatency& latency);

 private:
  enum class Blocked : std::uint8_t { no, issue, products, barrier, named, done };
  struct Barrier {
    std::int64_t pending = 0, bytes = 0;
    std::uint32_t arrivals = 0, phase = 0;
    std::uint32_t waiting = 0;  // roles, one bit each
    double latest = 0, completed = 0;
  };
  struct NamedBarrier {
    std::uint32_t arrived = 0, waiting = 0;
    double latest = 0;
  };
  static constexpr std::uint32_t kRing = 64;
  /// When the last asynchronous operations of a role complete: by number, modulo the ring.
  struct Pending {
    std::array<double, kRing> at{};
    std::uint32_t issued = 0;
    double latest = 0;
    void add(double when) {
      latest = when > latest ? when : latest;
      at[issued++ % kRing] = latest;
    }
    /// When at most `allowed` are left.
    double left(std::uint64_t allowed) const {
      return issued <= allowed ? 0 : at[(issued - 1 - static_cast<std::uint32_t>(allowed)) % kRing];
    }
  };
  struct Role {
    tile::Program program;
    std::uint32_t cta = 0, warps = 4;
    double ready = 0;
    Blocked blocked = Blocked::no;
    std::uint8_t barrier = 0, phase = 0;
    bool tile_asked = false;
    double tile_at = 0;
    std::uint64_t tiles = 0;
    Pending loads, stores;
    bool issuing = false;               // its last wgmma's instructions may still wait for their turns
    std::uint32_t awaited_product = 0;  // while blocked on products, which may come later than `ready`
  };
  struct Cta {
    tile::Cta id;
    std::uint32_t first_role = 0, synced = 0;
    double sync_at = 0;
    std::vector<Barrier> barriers;
    std::array<NamedBarrier, 16> named{};
  };

  /// A copy on its way into shared memory.
  struct Arrival {
    double at;
    std::uint32_t cta;
    std::uint8_t barrier;
    double bytes;
    bool copied;  // by threads, not by the TMA
  };

  void land(const Arrival& arrival);
  double occupy(Figure pipe, double at, double length) {
    double& free = free_[pipe];
    free = (at > free ? at : free) + length;
    sum_[pipe] += length;
    return free;
  }
  /// A role's wgmmas in the turns of the tensor cores and, for their operands, of the shared memory.
  static constexpr std::size_t kThreads = 0, kCopies = 1, kFirstRole = 2;
  std::size_t products_of(const Role& role) const {
    return kFirstRole + static_cast<std::size_t>(&role - roles_.data());
  }
  double product_done(std::size_t customer, std::uint32_t number) const {
    return std::max(tensor_turns_.done(customer, number), shared_turns_.done(customer, number)) +
           sm_.tensor_latency;
  }
  /// The shared memory, for so many of the bytes that threads load and store; when it has served them.
  double access_shared(double at, double bytes) {
    return occupy_shared(kThreads, at, bytes / sm_.shared_bytes_per_cycle);
  }
  double occupy_shared(std::size_t customer, double at, double length) {
    sum_[shared] += length;
    return shared_turns_.reserve(customer, at, length);
  }
  void advance(Role& role, std::uint32_t index);
  /// False if the role must wait.
  bool execute(Role& role, std::uint32_t index, const tile::Op& op, double& at);
  void arrive(Cta& cta, std::uint8_t barrier, double at, std::int64_t arrivals, std::int64_t expected,
              std::int64_t received);
  void wake(Cta& cta, std::uint32_t waiting, double at);
  double take_in(double at, double bytes, double bytes_per_cycle);

  const SmSpec& sm_;
  const tile::Kernel* kernel_ = nullptr;
  MemoryLatency latency_;
  std::vector<Cta> ctas_;
  std::vector<Role> roles_;
  std::vector<double> goes_on_;    // of each role: when it goes on; infinite if it waits for others
  std::vector<Arrival> arrivals_;  // in the order of time, from next_arrival_ on
  std::size_t next_arrival_ = 0;
  std::array<double, pipes> free_{};
  TurnPipe<double> tensor_turns_;
  EvenPipe<double> shared_turns_;
  Figures sum_{};
};

}  // namespace tessera::cost
