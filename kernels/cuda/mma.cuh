#pragma once
// mma.sync, ldmatrix and cp.async (sm_80 and later), a function each.

#include <cstdint>

#include "kernels/cuda/platform.cuh"

namespace tessera::cuda {

#ifdef __CUDACC__

__device__ inline std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

/// 16 bytes into shared memory, or zeros: with a source size of 0 nothing is read, wherever `from` points, on
/// which CUTLASS's iterators rely, too.
__device__ inline void copy_async(void* to, const void* from, bool there) {
  const int bytes = there ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(bytes)
               : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// 2^x as MUFU has it, denormals being zeros; exp2f() spends three more instructions on those.
__device__ inline float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Four 8 x 8 matrices; lanes 8 i to 8 i + 7 give the row addresses of matrix i.
__device__ inline void load_matrices(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ inline void load_matrices_transposed(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

/// c [16 x 8] += a [16 x 16] b [16 x 8].
__device__ inline void mma(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#else

/// From the CTA's first byte on: what a descriptor can hold.
__device__ inline std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(static_cast<const unsigned char*>(p) - emulation::dynamic_shared());
}
__device__ inline void copy_async(void* to, const void* from, bool there) {
  emulation::require_aligned(to, 16, "cp.async");
  if (!there) {
    std::memset(to, 0, 16);
    return;
  }
  emulation::require_aligned(from, 16, "cp.async");
  emulation::start(emulation::Async::copies, [=] { std::memcpy(to, from, 16); });
}
__device__ inline void commit_copies() { emulation::close_group(emulation::Async::copies); }
template <int kPending>
__device__ inline void wait_copies() {
  emulation::wait_groups(emulation::Async::copies, kPending);
}
__device__ inline float fast_exp2(float x) { return std::exp2(x); }

__device__ inline void load_matrices(std::uint32_t (&r)[4], const void* row) {
  emulation::require_aligned(row, 16, "ldmatrix");
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int i = 0; i < 4; ++i) {
    const auto* const from = static_cast<const std::uint32_t*>(emulation::from_lane(row, 8 * i + lane / 4));
    r[i] = from[lane % 4];
  }
}
__device__ inline void load_matrices_transposed(std::uint32_t (&r)[4], const void* row) {
  emulation::require_aligned(row, 16, "ldmatrix");
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int i = 0; i < 4; ++i) {
    const auto* const low =
        static_cast<const std::uint16_t*>(emulation::from_lane(row, 8 * i + lane % 4 * 2));
    const auto* const high =
        static_cast<const std::uint16_t*>(emulation::from_lane(row, 8 * i + lane % 4 * 2 + 1));
    r[i] = low[lane / 4] | static_cast<std::uint32_t>(high[lane / 4]) << 16;
  }
}

__device__ inline void mma(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  struct Fragments {
    std::uint32_t a[4], b[2];
  };
  const Fragments mine{{a[0], a[1], a[2], a[3]}, {b0, b1}};
  const int lane = static_cast<int>(threadIdx.x % 32);
  std::memcpy(emulation::exchange().bytes[lane], &mine, sizeof mine);
  emulation::wait_for_warp();
  float left[16][16], right[16][8];
  const auto half = [](std::uint32_t two, int which) {
    return std::bit_cast<float>((two >> (16 * which)) << 16);
  };
  for (int l = 0; l < 32; ++l) {
    Fragments f;
    std::memcpy(&f, emulation::exchange().bytes[l], sizeof f);
    for (int which = 0; which < 2; ++which) {
      for (int i = 0; i < 4; ++i) left[mma_a(l, i).row][mma_a(l, i).column + which] = half(f.a[i], which);
      for (int i = 0; i < 2; ++i) right[mma_b(l, i).row + which][mma_b(l, i).column] = half(f.b[i], which);
    }
  }
  emulation::wait_for_warp();
  for (int i = 0; i < 4; ++i) {
    const Element at = mma_c(lane, i);
    for (int k = 0; k < 16; ++k) c[i] += left[at.row][k] * right[k][at.column];
  }
}

#endif

/// The A fragment at (row, column) of a row-major tile in shared memory, `stride` elements a row.
__device__ inline void load_a(std::uint32_t (&a)[4], const bf16* tile, int stride, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  load_matrices(a, tile + (row + lane % 16) * stride + column + (lane / 16) * 8);
}
/// Two B fragments, n by k in memory (k contiguous): columns n to n + 7 in b[0], b[1], n + 8 to n + 15 in
/// b[2], b[3].
__device__ inline void load_b(std::uint32_t (&b)[4], const bf16* tile, int stride, int n, int k) {
  const int lane = static_cast<int>(threadIdx.x) % 32, matrix = lane / 8;
  load_matrices(b, tile + (n + (matrix / 2) * 8 + lane % 8) * stride + k + (matrix % 2) * 8);
}
/// The same of a tile that is k by n in memory (n contiguous).
__device__ inline void load_b_transposed(std::uint32_t (&b)[4], const bf16* tile, int stride, int k, int n) {
  const int lane = static_cast<int>(threadIdx.x) % 32, matrix = lane / 8;
  load_matrices_transposed(b, tile + (k + (matrix % 2) * 8 + lane % 8) * stride + n + (matrix / 2) * 8);
}

__device__ inline std::uint32_t pack(float low, float high) {
  const __nv_bfloat162 two = __floats2bfloat162_rn(low, high);
  std::uint32_t bits;
  memcpy(&bits, &two, sizeof bits);
  return bits;
}

/// Over the four lanes that hold a row of C.
__device__ inline float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}
__device__ inline float row_sum(float x) {
  x += __shfl_xor_sync(0xffffffff, x, 1);
  return x + __shfl_xor_sync(0xffffffff, x, 2);
}

}  // namespace tessera::cuda
