#pragma once
// Dense matrix product.

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

std::string_view kind(const Gemm& op);
double flops(const Gemm& op);
std::vector<Operand> operands(const Gemm& op);
std::string signature(const Gemm& op);
void require_possible(const Gemm& op);

}  // namespace tessera::models
