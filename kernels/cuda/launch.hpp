#pragma once
// What the launching functions beside the CUDA kernels share. No CUDA header is needed to call them: streams
// and device addresses are void*.

#include <cstdint>
#include <stdexcept>

namespace tessera::cuda {

using Stream = void*;  ///< a cudaStream_t

/// A kernel that this GPU is too small for: nothing is wrong with what was to be measured.
class TooLittleSharedMemory : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Writes `count` elements of random.hpp's values, scale x value + offset, rounded to bf16 or fp32.
void launch_fill(void* to, bool bf16, std::int64_t count, std::uint64_t seed, bool normal, float scale,
                 float offset, Stream stream);

}  // namespace tessera::cuda
