#pragma once
// Dense matrix products.

#include <string>
#include <string_view>
#include <vector>

#include "models/operators/operand.hpp"

namespace tessera::models {

/// C[m,n] = A[m,k] B[n,k]^T (weights stored output-major, as Linear layers do).
struct Gemm {
  std::int64_t m = 0, n = 0, k = 0;
  Dtype dtype = Dtype::bf16;
};

/// C[b,m,n] = A[b,m,k] B[b,n,k]^T: a product per head, as latent attention absorbs its up-projections.
struct BatchedGemm {
  std::int64_t batches = 1;
  std::int64_t m = 0, n = 0, k = 0;  ///< of each
  Dtype dtype = Dtype::bf16;
};

std::string_view kind(const Gemm& op);
std::string_view kind(const BatchedGemm& op);
double flops(const Gemm& op);
double flops(const BatchedGemm& op);
std::vector<Operand> operands(const Gemm& op);
std::vector<Operand> operands(const BatchedGemm& op);
std::string signature(const Gemm& op);
std::string signature(const BatchedGemm& op);
void require_possible(const Gemm& op);
void require_possible(const BatchedGemm& op);

}  // namespace tessera::models
