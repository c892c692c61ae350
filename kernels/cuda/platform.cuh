#pragma once
// What a kernel's source is compiled for: a GPU by nvcc, or the CPU (emulation.hpp). And errors of CUDA calls
// as exceptions.

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#define TESSERA_DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#define TESSERA_SHARED(type, name, count) __shared__ __align__(16) type name[count]
#else
#include "kernels/cuda/emulation.hpp"

#define TESSERA_DYNAMIC_SHARED(name) unsigned char* const name = tessera::cuda::emulation::dynamic_shared()
#define TESSERA_SHARED(type, name, count) \
  type* const name =                      \
      static_cast<type*>(tessera::cuda::emulation::static_shared(#name, sizeof(type) * std::size_t{count}))
#endif

#include <stdexcept>
#include <string>

#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/tiles.hpp"

namespace tessera::cuda {

using bf16 = __nv_bfloat16;

inline unsigned blocks_of(std::int64_t items, std::int64_t each) {
  return static_cast<unsigned>(tiles_of(items, each));
}

#ifdef __CUDACC__

/// Of a call; std::runtime_error names it.
inline void require(cudaError_t error, const char* what) {
  if (error != cudaSuccess)
    throw std::runtime_error{std::string{what} + ": " + cudaGetErrorName(error) + ", " +
                             cudaGetErrorString(error)};
}
inline cudaStream_t stream_of(Stream stream) { return static_cast<cudaStream_t>(stream); }

/// A kernel may have 48 KiB without asking, of which static shared memory and the alignment of the dynamic
/// take some.
inline constexpr int kUnaskedSharedBytes = 32 << 10;

/// Lets a kernel have so much dynamic shared memory, if the GPU does: some have 99 KiB for a CTA, some 227.
template <class Kernel>
void allow_shared(const char* name, Kernel kernel, int bytes) {
  int device = 0, most = 0;
  require(cudaGetDevice(&device), name);
  require(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), name);
  if (bytes > most)
    throw TooLittleSharedMemory{std::string{name} + ": needs " + std::to_string(bytes) +
                                " bytes of shared memory, a CTA of this GPU can have " +
                                std::to_string(most)};
  require(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), name);
}

/// `shared_bytes` of dynamic shared memory; TooLittleSharedMemory; std::runtime_error if it cannot be
/// launched.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, int shared_bytes,
            Stream stream, Arguments... arguments) {
  if (shared_bytes > kUnaskedSharedBytes) allow_shared(name, kernel, shared_bytes);
  kernel<<<grid, block, static_cast<std::size_t>(shared_bytes), stream_of(stream)>>>(arguments...);
  require(cudaGetLastError(), name);
}
inline void set_bytes(void* to, int byte, std::int64_t count, Stream stream) {
  require(cudaMemsetAsync(to, byte, static_cast<std::size_t>(count), stream_of(stream)), "cudaMemsetAsync");
}

#else

template <class... Parameters, class... Arguments>
void launch(const char*, void (*kernel)(Parameters...), dim3 grid, dim3 block, int shared_bytes, Stream,
            Arguments... arguments) {
  emulation::run_grid(grid, block, static_cast<std::size_t>(shared_bytes), [&] { kernel(arguments...); });
}
inline void set_bytes(void* to, int byte, std::int64_t count, Stream) {
  std::memset(to, byte, static_cast<std::size_t>(count));
}

#endif

}  // namespace tessera::cuda
