#include "kernels/cuda/platform.cuh"
#include "kernels/cuda/random.hpp"

namespace tessera::cuda {

namespace {

template <class T>
__global__ void fill(T* to, std::int64_t count, std::uint64_t seed, bool normal, float scale, float offset) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    const float value = normal ? normal_value(seed, i) : uniform_value(seed, i);
    to[i] = static_cast<T>(__fmaf_rn(value, scale, offset));
  }
}

}  // namespace

void launch_fill(void* to, bool is_bf16, std::int64_t count, std::uint64_t seed, bool normal, float scale,
                 float offset, Stream stream) {
  if (count == 0) return;
  const std::int64_t needed = tiles_of(count, 256);
  const auto blocks = static_cast<unsigned>(needed < 8192 ? needed : 8192);
  if (is_bf16)
    launch("fill", fill<bf16>, {blocks}, {256}, 0, stream, static_cast<bf16*>(to), count, seed, normal, scale,
           offset);
  else
    launch("fill", fill<float>, {blocks}, {256}, 0, stream, static_cast<float*>(to), count, seed, normal,
           scale, offset);
}

}  // namespace tessera::cuda
