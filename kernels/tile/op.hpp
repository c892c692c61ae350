#pragma once
// Tile operations: what a warp role asks of its SM. One operation covers a whole tile, not a thread.

#include <cstdint>

namespace tessera::tile {

/// What caches are filled and moved by.
inline constexpr std::uint64_t kLineBytes = 128;

/// A two-dimensional piece of global memory: `rows` runs of `row_bytes`, `pitch` bytes apart.
struct Box {
  std::uint64_t address = 0;
  std::uint32_t rows = 0;
  std::uint32_t row_bytes = 0;
  std::uint64_t pitch = 0;
  std::uint64_t bytes() const { return std::uint64_t{rows} * row_bytes; }
  /// The lines that its rows touch, as the first row lies.
  std::uint64_t lines() const {
    const std::uint64_t first = address / kLineBytes, last = (address + row_bytes - 1) / kLineBytes;
    return std::uint64_t{rows} * (last - first + 1);
  }
};

enum class OpKind : std::uint8_t {
  tma_load,    ///< box -> shared memory of the CTAs in cluster_mask, completing on `barrier` of each; `count`
               ///< pieces, if shared memory holds its rows in pieces
  tma_store,   ///< shared memory -> box, asynchronous; `count` as of tma_load
  store_wait,  ///< until at most `count` of the role's stores have still to be read from shared memory
  expect,      ///< arrive on `barrier` and expect `count` more bytes from TMA loads
  arrive,      ///< arrive on `barrier` of the CTA of cluster rank `rank`
  wait,        ///< until the phase of `barrier` with parity `phase` has completed
  named_sync,  ///< bar.sync: `barrier` is the name, `count` the number of roles that meet
  named_arrive,  ///< bar.arrive: counts towards a named_sync without waiting
  wgmma,         ///< asynchronous m x n x k product of one warpgroup (Hopper)
  wgmma_wait,    ///< until at most `count` wgmma groups are pending
  mma,           ///< synchronous mma.sync m x n x k over the role's warps; `count` bytes of fragments for the
                 ///< next products are loaded from shared memory beside it
  compute,      ///< elementwise work on registers: FMA, integer, MUFU and conversion counts; at least `count`
                ///< cycles
  shared_load,  ///< `count` bytes from shared memory into registers
  l1_load,      ///< `count` bytes into registers from lines that are in the L1
  shared_store,   ///< `count` bytes from registers into shared memory
  load,           ///< box -> registers, or shared memory by cp.async; asynchronous
  async_load,     ///< box -> shared memory by cp.async of the role's threads, completing on `barrier`
  load_wait,      ///< until at most `count` loads of this role are pending
  store,          ///< registers -> box, not waited for
  chain,          ///< `count` cycles of instructions of one warp that wait for each other
  prefetch_tile,  ///< asks the grid's tile counter, for the next_tile to come
  next_tile,      ///< the value of the grid's tile counter, then adds one (an L2 atomic)
  cluster_sync,   ///< all roles of all CTAs of the cluster meet
  item,  ///< the role's next piece of work begins, with `count` alike trips; the result: whether to pass it
         ///< over
  trip,  ///< the next of `count` alike trips of a loop begins; the result: how many to pass over
};

/// Elementwise work of a whole role, in thread-level operations. Always brace-initialised: it shares a
/// union with Box, so it has no default initialisers of its own.
struct Vector {
  std::uint64_t fma;      ///< FP32 pipe: FMA, add, multiply, max
  std::uint64_t integer;  ///< integer, select, compare, predicates
  std::uint64_t mufu;     ///< exp2, reciprocal, reciprocal square root, sine
  std::uint64_t convert;  ///< fp32 -> bf16 and back, in results
  std::uint64_t shuffle;  ///< warp shuffles, in lanes
};

struct Op {
  OpKind kind = OpKind::compute;
  std::uint8_t barrier = 0;
  std::uint8_t phase = 0;
  std::uint8_t rank = 0;
  std::uint16_t cluster_mask = 0;  ///< 0: only this CTA
  bool a_in_registers = false;     ///< wgmma: A does not load shared memory
  bool last_in_group = true;       ///< wgmma: closes a commit group; compute: its results are waited for
  bool promote = false;            ///< tma_load: the tensor map promotes L2 misses to 256 B
  std::uint16_t m = 0, n = 0;
  std::uint32_t k = 0;
  std::uint64_t count = 0;
  union {
    Box box{};
    Vector vector;
  };
};

}  // namespace tessera::tile
