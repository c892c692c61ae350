#include "kernels/cuda/hopper.cuh"

namespace tessera::cuda {

TensorMap make_rows_map(const void* base, std::int64_t batch, std::int64_t rows, std::int64_t heads,
                        std::int64_t dim, int box_rows) {
#ifdef __CUDACC__
  // The driver's function, found through the runtime: no library of the driver has to be linked.
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const Encode encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    require(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault,
                                             &found),
            "cudaGetDriverEntryPointByVersion");
    if (found != cudaDriverEntryPointSuccess || function == nullptr)
      throw std::runtime_error{"the driver has no cuTensorMapEncodeTiled: it is older than CUDA 12"};
    return reinterpret_cast<Encode>(function);
  }();
  const auto unsigned64 = [](std::int64_t x) { return static_cast<cuuint64_t>(x); };
  const cuuint64_t sizes[4] = {unsigned64(dim), unsigned64(heads), unsigned64(rows), unsigned64(batch)};
  const cuuint64_t strides[3] = {unsigned64(2 * dim), unsigned64(2 * dim * heads),
                                 unsigned64(2 * dim * heads * rows)};
  const cuuint32_t box[4] = {64, 1, static_cast<cuuint32_t>(box_rows), 1}, steps[4] = {1, 1, 1, 1};
  TensorMap map;
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<void*>(base), sizes, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw std::runtime_error{"cuTensorMapEncodeTiled: error " + std::to_string(static_cast<int>(result))};
  return map;
#else
  return {base, {dim, heads, rows, batch}, {1, dim, dim * heads, dim * heads * rows}, {64, 1, box_rows, 1}};
#endif
}

}  // namespace tessera::cuda
