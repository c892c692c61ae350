#pragma once
// CUDA's thread model on the CPU, for builds without nvcc: the .cu files are then compiled as C++, every
// thread of a CTA is a fiber, and barriers and warp-wide instructions are points where fibers wait for each
// other. What a kernel computes is thereby tested without a GPU; what the hardware's instructions themselves
// do is as the PTX ISA has it. One CTA after the other: nothing may wait for another CTA.
//
// Copies and products that the hardware carries out some time between their start and the wait for them are
// carried out at one end of that time or at the other, by a draw: a kernel that does not wait for what it
// reads, or overwrites what is still read, computes something else.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __grid_constant__

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

/// Set by the scheduler for the fiber that runs.
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

struct __nv_bfloat16 {
  std::uint16_t bits = 0;
  __nv_bfloat16() = default;
  explicit __nv_bfloat16(float value) {
    const auto b = std::bit_cast<std::uint32_t>(value);
    bits = static_cast<std::uint16_t>(std::isnan(value) ? 0x7fff : (b + 0x7fff + ((b >> 16) & 1)) >> 16);
  }
  operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};
struct __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__nv_bfloat16{x}, __nv_bfloat16{y}}; }
inline __nv_bfloat16 __float2bfloat16(float x) { return __nv_bfloat16{x}; }
inline float __bfloat162float(__nv_bfloat16 x) { return x; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
using std::max;
using std::min;

namespace tessera::cuda::emulation {

/// Waits for all threads of the CTA, or of the fiber's warp. Every thread that has not returned takes part.
void wait_for_cta();
void wait_for_warp();
/// Lets the other fibers run: for loops that wait for a value in memory.
void yield();
/// By a draw: what this thread has just told others may reach them before it goes on itself.
void let_others_go_on();
/// A wait of that kind is over: the threads do not all wait.
void progressed();

/// A piece of memory that the lanes of a warp exchange values through.
struct Exchange {
  alignas(16) unsigned char bytes[32][128];
};
Exchange& exchange();

/// Dynamic shared memory of the CTA.
unsigned char* dynamic_shared();
/// Static shared memory of the CTA: the same for every thread that asks at the same place.
void* static_shared(const char* name, std::size_t bytes);

/// A thread's groups of copies (cp.async), or of products (wgmma).
enum class Async : std::uint8_t { copies, products };
/// Into the open group: carried out now, or when the group is waited for.
void start(Async kind, std::function<void()> act);
void close_group(Async kind);
/// Until all but the last `pending` closed groups are done.
void wait_groups(Async kind, int pending);

/// Registers that products in flight write: no numbers until these are waited for. Where the numbers are
/// instead, for the products to come.
float* in_flight(float* registers, int count);
/// wgmma.fence; products without one since the last group was closed are an error.
void fence_products();

/// Bytes that arrive in shared memory: now, or when somebody waits for this barrier.
void deliver(void* barrier, std::function<void()> act);
/// Somebody waits for the barrier.
void expect_deliveries(void* barrier);

/// std::runtime_error if it is not.
void require_aligned(const void* address, std::size_t bytes, const char* what);

/// Runs `body` once for every thread of every CTA. std::runtime_error if threads wait forever, or end with
/// work in flight that nobody waited for.
void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& body);

/// All lanes' values.
template <class T>
std::array<T, 32> from_lanes(T mine) {
  static_assert(sizeof(T) <= 128);
  std::memcpy(exchange().bytes[threadIdx.x % 32], &mine, sizeof mine);
  wait_for_warp();
  std::array<T, 32> all;
  for (std::size_t lane = 0; lane < 32; ++lane) std::memcpy(&all[lane], exchange().bytes[lane], sizeof(T));
  wait_for_warp();
  return all;
}
/// One lane's value.
template <class T>
T from_lane(T mine, int lane) {
  static_assert(sizeof(T) <= 128);
  std::memcpy(exchange().bytes[threadIdx.x % 32], &mine, sizeof mine);
  wait_for_warp();
  T theirs;
  std::memcpy(&theirs, exchange().bytes[lane], sizeof theirs);
  wait_for_warp();
  return theirs;
}

}  // namespace tessera::cuda::emulation

inline void __syncthreads() { tessera::cuda::emulation::wait_for_cta(); }
inline void __syncwarp(unsigned = 0xffffffff) { tessera::cuda::emulation::wait_for_warp(); }
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return tessera::cuda::emulation::from_lane(value, static_cast<int>(threadIdx.x % 32) ^ mask);
}
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  return tessera::cuda::emulation::from_lane(value, lane);
}
template <class T>
T atomicAdd(T* at, T value) {
  const T before = *at;
  *at += value;
  return before;
}
