#pragma once
// Sums and maxima over a CTA of up to 1024 threads.

#include "kernels/cuda/platform.cuh"

namespace tessera::cuda {

struct Add {
  __device__ float operator()(float a, float b) const { return a + b; }
  static constexpr float kNone = 0;
};
struct Most {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
  static constexpr float kNone = -3.4e38F;
};

template <class Op>
__device__ float warp_reduce(float x, Op op) {
  for (int step = 16; step > 0; step /= 2) x = op(x, __shfl_xor_sync(0xffffffff, x, step));
  return x;
}

/// The same result in every thread; blockDim.x a multiple of 32. `scratch`: 32 floats of shared memory.
template <class Op>
__device__ float block_reduce(float x, float* scratch, Op op) {
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  x = warp_reduce(x, op);
  __syncthreads();  // the scratch of a reduction before
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  x = lane < static_cast<int>(blockDim.x / 32) ? scratch[lane] : Op::kNone;
  return warp_reduce(x, op);
}

/// Eight bf16, as one 16-byte access.
struct Eight {
  uint4 bits;
  __device__ float get(int i) const {
    bf16 value;
    memcpy(&value, reinterpret_cast<const unsigned char*>(&bits) + 2 * i, 2);
    return static_cast<float>(value);
  }
  __device__ void set(int i, float x) {
    const bf16 value{x};
    memcpy(reinterpret_cast<unsigned char*>(&bits) + 2 * i, &value, 2);
  }
};
__device__ inline Eight load_eight(const bf16* from) { return {*reinterpret_cast<const uint4*>(from)}; }
__device__ inline void store_eight(bf16* to, const Eight& x) { *reinterpret_cast<uint4*>(to) = x.bits; }

}  // namespace tessera::cuda
