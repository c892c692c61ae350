#pragma once
// The products of a mixture of experts through cuBLAS's grouped call, the library that users run: one product
// for each expert that has rows, all in one call. Its sizes are on the host, so whoever calls it knows the
// routing.

#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/launch.hpp"

namespace tessera::cuda {

/// Rows [first, first + rows) are an expert's.
struct ExpertRows {
  std::int32_t expert = 0;
  std::int64_t first = 0, rows = 0;
};
/// Of tokens' experts, `ids`: those that have rows, in their order, one after the other.
std::vector<ExpertRows> expert_rows(std::span<const std::int32_t> ids, std::int64_t experts);

/// What cublasGemmGroupedBatchedEx takes on the host, one of each for every group of one product. Matrices
/// are column-major there: out^T [width, rows] = W [width, depth] in^T, of which row-major W is the
/// transpose.
struct GroupedArguments {
  std::vector<int> transpose_a, transpose_b;  ///< 1: transposed
  std::vector<int> m, n, k, lda, ldb, ldc, products;
  std::vector<float> alpha, beta;
};
GroupedArguments grouped_arguments(const std::vector<ExpertRows>& groups, std::int64_t width,
                                   std::int64_t depth);

inline constexpr std::int64_t kGroupedWorkspaceBytes = std::int64_t{32} << 20;

/// out[rows, width] = in[rows, depth] weights[expert, width, depth]^T for each group, bf16, fp32 sums.
class GroupedProduct {
 public:
  GroupedProduct(std::vector<ExpertRows> groups, std::int64_t width, std::int64_t depth);
  std::int64_t groups() const { return static_cast<std::int64_t>(groups_.size()); }
  /// [2, groups]: each group's expert and first row, for `place`.
  std::vector<std::int32_t> listed() const;
  /// Writes the addresses of every group's weights, in and out, `addresses` [3, groups], all in device
  /// memory.
  void place(void* addresses, const std::int32_t* listed, const void* weights, const void* in, void* out,
             Stream stream) const;
  /// With the addresses of `place`. LibraryMissing; std::runtime_error: cuBLAS refuses. Without CUDA: the
  /// same arguments, as cuBLAS reads them, on the host.
  void run(const void* addresses, void* workspace, Stream stream) const;

 private:
  std::vector<ExpertRows> groups_;
  std::int64_t width_, depth_;
  GroupedArguments arguments_;
};
/// "cuBLAS 130100": after a run.
std::string cublas_version();

}  // namespace tessera::cuda
