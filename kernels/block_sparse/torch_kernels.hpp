#pragma once
// What PyTorch launches for the steps of moba_efficient.py that are no plain elementwise kernels. One CTA
// program each; their inefficiencies are those of the published kernels (aten/src/ATen/native/cuda).

#include <cstdint>
#include <string>

#include "kernels/block_sparse/loop_kernel.hpp"
#include "sim/core/hardware.hpp"

namespace tessera::kernels {

/// index_select and index_add_ along rows (Indexing.cu, indexSelectLargeIndex, indexFuncLargeIndex): 8 CTAs
/// of 128 threads to an SM, each thread one element at a time, index first, so that two memory latencies pass
/// for every 128 elements of a CTA.
struct RowMove {
  std::string name;
  std::uint64_t rows = 0;       ///< that are moved
  std::uint32_t row_bytes = 0;  ///< of the array that is read
  std::uint32_t element_bytes = 2;
  std::uint64_t table_rows = 1;  ///< of the array that is read from, or added to, by index
  bool add = false;              ///< index_add_: read in order, added to indexed rows (fp32 atomics)
  std::uint64_t indices = 0, in = 0, out = 0;  ///< addresses
  std::uint32_t index_bytes = 8;
  std::uint64_t between_read = 0, between_written = 0;
};
class RowMoveKernel final : public LoopKernel<RowMoveKernel> {
 public:
  RowMoveKernel(const RowMove& move, const GpuSpec& gpu);

 private:
  friend class LoopKernel<RowMoveKernel>;
  tile::Program body(std::uint32_t cta, std::uint32_t trips) const;
  RowMove move_;
  std::uint32_t stride_ = 1;  // CTAs
};

/// bf16 rows times an fp32 factor for each row, to fp32 (Loops.cuh: types differ and the factor is broadcast,
/// so elementwise_kernel<128, 4> fetches and casts one element at a time, by a branch on the type): a thread
/// waits for the row's element, then for the factor.
struct CastProduct {
  std::string name;
  std::uint64_t rows = 0;
  std::uint32_t width = 0;  ///< elements of a row
  std::uint32_t element_bytes = 2;
  std::uint64_t in = 0, factors = 0, out = 0;  ///< addresses
  std::uint64_t between_read = 0, between_written = 0;
};
class CastProductKernel final : public LoopKernel<CastProductKernel> {
 public:
  CastProductKernel(const CastProduct& product, const GpuSpec& gpu);

 private:
  friend class LoopKernel<CastProductKernel>;
  tile::Program body(std::uint32_t cta, std::uint32_t trips) const;
  CastProduct product_;
  std::uint32_t stride_ = 1;  // CTAs
};

/// torch.topk along a strided dimension (TensorTopK.cu, sbtopk::gatherTopK): a CTA for each slice, which
/// reads the slice once for every two bits of radix select, once more for the value found, twice to write.
/// Elements of a slice lie a row apart: a 32 B sector each, and a line's look-up each.
struct StridedTopK {
  std::uint64_t slices = 0;
  std::uint32_t slice = 0;  ///< elements
  std::uint32_t k = 0;
  std::uint64_t pitch = 0;  ///< bytes from one element of a slice to the next
  std::uint64_t in = 0, values = 0, indices = 0;
  std::uint64_t between_read = 0, between_written = 0;

  /// Reads of the slice. Radix select ends when the k-th value is alone in its bin: after sign and exponent,
  /// n values of an octave are told apart by log2(n) bits of the mantissa.
  std::uint32_t passes() const;
};
class StridedTopKKernel final : public LoopKernel<StridedTopKKernel> {
 public:
  StridedTopKKernel(const StridedTopK& topk, const GpuSpec& gpu);

 private:
  friend class LoopKernel<StridedTopKKernel>;
  tile::Program body(std::uint32_t cta, std::uint32_t trips) const;
  StridedTopK topk_;
  std::uint32_t threads_;
};

/// scatter_ of one byte for each index, into a mask of another row for each.
struct MaskScatter {
  std::uint64_t indices = 0;  ///< how many
  std::uint32_t rows = 1;     ///< of the mask
  std::uint64_t pitch = 0;
  std::uint64_t in = 0, out = 0;
  std::uint64_t between_read = 0, between_written = 0;
};
class MaskScatterKernel final : public LoopKernel<MaskScatterKernel> {
 public:
  MaskScatterKernel(const MaskScatter& scatter, const GpuSpec& gpu);

 private:
  friend class LoopKernel<MaskScatterKernel>;
  tile::Program body(std::uint32_t cta, std::uint32_t trips) const;
  MaskScatter scatter_;
  std::uint32_t stride_ = 1;
};

/// fp32 C[m, n] = A[m, k] B[n, k]^T on FP32 units (cuBLAS, TF32 off): tiles of 128 x 128, k in steps of 8.
struct Sgemm {
  std::uint64_t m = 0, n = 0;
  std::uint32_t k = 0;
  std::uint64_t batch = 1;
  std::uint64_t a = 0, b = 0, c = 0;
  std::uint64_t between_read = 0, between_written = 0;
};
class SgemmKernel final : public LoopKernel<SgemmKernel> {
 public:
  SgemmKernel(const Sgemm& product, const GpuSpec& gpu);

 private:
  friend class LoopKernel<SgemmKernel>;
  tile::Program body(std::uint32_t cta, std::uint32_t trips) const;
  Sgemm product_;
};

}  // namespace tessera::kernels
