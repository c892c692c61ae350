#pragma once
// TMA, mbarriers and register reallocation (sm_90a), a function each; and what they do, on the CPU.

#include "kernels/cuda/mma.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define TESSERA_HOPPER_CODE 1
#endif

#ifdef __CUDACC__
#include <cuda.h>
#endif

namespace tessera::cuda {

#ifdef __CUDACC__
using TensorMap = CUtensorMap;
#else
/// Of a bf16 tensor of four dimensions, the innermost contiguous.
struct TensorMap {
  const void* base = nullptr;
  std::int64_t sizes[4] = {}, strides[4] = {};  // elements
  int box[4] = {};
};
#endif

/// A tensor [batch, rows, heads, dim], read in boxes of 64 elements of `box_rows` rows of one head, swizzled
/// by 128 bytes; rows beyond are zeros. std::runtime_error if the driver refuses.
TensorMap make_rows_map(const void* base, std::int64_t batch, std::int64_t rows, std::int64_t heads,
                        std::int64_t dim, int box_rows);

#if defined(TESSERA_HOPPER_CODE)

using Barrier = std::uint64_t;

__device__ inline void init_barrier(Barrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals)
               : "memory");
}
/// Makes initialised barriers visible to the copy engine.
__device__ inline void fence_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ inline void arrive(Barrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
__device__ inline void arrive_expecting(Barrier* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(bytes)
               : "memory");
}
/// Until the phase of that parity is over.
__device__ inline void wait_phase(Barrier* barrier, int parity) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
      "@p bra done;\n"
      "bra again;\n"
      "done:\n"
      "}\n" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}
/// One box at (element, head, row, batch); its bytes count towards the barrier's phase.
__device__ inline void tma_load(void* to, const TensorMap* map, Barrier* barrier, int element, int head,
                                int row, int batch) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, "
      "%5, %6}], "
      "[%2];" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(barrier)), "r"(element), "r"(head), "r"(row), "r"(batch)
      : "memory");
}
/// Contiguous bytes: a multiple of 16.
__device__ inline void bulk_load(void* to, const void* from, int bytes, Barrier* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
}
template <int kRegisters>
__device__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

#else

/// Counts arrivals and bytes, as the hardware's does.
struct Barrier {
  std::int32_t arrivals = 0, pending = 0, bytes = 0, phase = 0;
};

#ifdef __CUDACC__
#define TESSERA_ON_CPU(...) __trap()
#else
#define TESSERA_ON_CPU(...) __VA_ARGS__
#endif

__device__ inline void advance(Barrier* b) {
  if (b->pending == 0 && b->bytes == 0) {
    ++b->phase;
    b->pending = b->arrivals;
  }
}
__device__ inline void init_barrier(Barrier* barrier, int arrivals) { *barrier = {arrivals, arrivals, 0, 0}; }
__device__ inline void fence_barriers() {}
__device__ inline void arrive(Barrier* barrier) {
#ifndef __CUDACC__
  if (barrier->pending <= 0) throw std::runtime_error{"emulated kernel: one arrival too many at an mbarrier"};
#endif
  --barrier->pending;
  advance(barrier);
#ifndef __CUDACC__
  emulation::let_others_go_on();
#endif
}
__device__ inline void arrive_expecting(Barrier* barrier, int bytes) {
  barrier->bytes += bytes;
  arrive(barrier);
}
__device__ inline void wait_phase([[maybe_unused]] Barrier* barrier, [[maybe_unused]] int parity) {
  TESSERA_ON_CPU({
    // A phase of that parity is over once the current one has the other.
    emulation::expect_deliveries(barrier);
    while (barrier->phase % 2 == parity) {
      emulation::yield();
      emulation::expect_deliveries(barrier);
    }
    emulation::progressed();
  });
}
__device__ inline void completed(Barrier* barrier, int bytes) {
  barrier->bytes -= bytes;
  advance(barrier);
}
__device__ inline void tma_load([[maybe_unused]] void* to, [[maybe_unused]] const TensorMap* map,
                                [[maybe_unused]] Barrier* barrier, [[maybe_unused]] int element,
                                [[maybe_unused]] int head, [[maybe_unused]] int row,
                                [[maybe_unused]] int batch) {
  TESSERA_ON_CPU({
    emulation::require_aligned(map->base, 16, "TMA");
    emulation::require_aligned(to, 1024, "TMA with the 128-byte swizzle");
    emulation::deliver(barrier, [=, tensor = *map] {
      const auto* const base = static_cast<const std::uint16_t*>(tensor.base);
      for (int r = 0; r < tensor.box[2]; ++r) {
        for (int e = 0; e < 64; ++e) {
          const bool there = row + r < tensor.sizes[2] && element + e < tensor.sizes[0];
          const std::uint16_t value = there ? base[(element + e) + head * tensor.strides[1] +
                                                   (row + r) * tensor.strides[2] + batch * tensor.strides[3]]
                                            : std::uint16_t{0};
          std::memcpy(static_cast<unsigned char*>(to) + swizzled_128b(r, e), &value, 2);
        }
      }
      completed(barrier, tensor.box[2] * 128);
    });
  });
}
__device__ inline void bulk_load([[maybe_unused]] void* to, [[maybe_unused]] const void* from,
                                 [[maybe_unused]] int bytes, [[maybe_unused]] Barrier* barrier) {
  TESSERA_ON_CPU({
    emulation::require_aligned(to, 16, "cp.async.bulk");
    emulation::require_aligned(from, 16, "cp.async.bulk");
    emulation::deliver(barrier, [=] {
      std::memcpy(to, from, static_cast<std::size_t>(bytes));
      completed(barrier, bytes);
    });
  });
}
template <int kRegisters>
__device__ void take_registers() {}
template <int kRegisters>
__device__ void give_registers() {}

#ifndef __CUDACC__
/// Element (mn, k) of the matrix that a descriptor gives, at most 256 x 16: the hardware adds up offsets and
/// swizzles the sum, address bits 4 to 6 by bits 7 to 9.
inline float emulated_element(std::uint64_t descriptor, int mn, int k, bool mn_major) {
  const auto field = [&](int shift) {
    return static_cast<std::uint32_t>((descriptor >> shift) & 0x3fff) << 4;
  };
  const std::uint32_t start = field(0), leading = field(16), stride = field(32);
  const auto m = static_cast<std::uint32_t>(mn), kk = static_cast<std::uint32_t>(k);
  const std::uint32_t logical = mn_major
                                    ? start + m / 64 * leading + m % 64 * 2 + kk / 8 * stride + kk % 8 * 128
                                    : start + m / 8 * stride + m % 8 * 128 + kk * 2;
  const std::uint32_t physical = logical ^ ((logical >> 7 & 7) << 4);
  bf16 value;
  std::memcpy(&value, emulation::dynamic_shared() + physical, 2);
  return static_cast<float>(value);
}
#else
__device__ inline float emulated_element(std::uint64_t, int, int, bool) { return 0; }
#endif

#endif

}  // namespace tessera::cuda
