#include "models/operators/gemm.hpp"

#include <fmt/format.h>

namespace tessera::models {

std::string_view kind(const Gemm&) { return "gemm"; }
std::string_view kind(const BatchedGemm&) { return "batched_gemm"; }

double flops(const Gemm& op) { return 2 * product({op.m, op.n, op.k}); }
double flops(const BatchedGemm& op) { return 2 * product({op.batches, op.m, op.n, op.k}); }

std::vector<Operand> operands(const Gemm& op) {
  const std::int64_t e = bytes_of(op.dtype);
  return {{"a", op.m * op.k * e, false}, {"weights", op.n * op.k * e, false}, {"out", op.m * op.n * e, true}};
}

std::vector<Operand> operands(const BatchedGemm& op) {
  const std::int64_t e = op.batches * bytes_of(op.dtype);
  return {{"a", op.m * op.k * e, false}, {"weights", op.n * op.k * e, false}, {"out", op.m * op.n * e, true}};
}

std::string signature(const Gemm& op) {
  return fmt::format("gemm {}x{}x{} {}", op.m, op.n, op.k, name_of(op.dtype));
}

std::string signature(const BatchedGemm& op) {
  return fmt::format("batched_gemm {} of {}x{}x{} {}", op.batches, op.m, op.n, op.k, name_of(op.dtype));
}

void require_possible(const Gemm& op) {
  require_positive(kind(op), "m", op.m);
  require_positive(kind(op), "n", op.n);
  require_positive(kind(op), "k", op.k);
}
void require_possible(const BatchedGemm& op) {
  require_positive(kind(op), "batches", op.batches);
  require_positive(kind(op), "m", op.m);
  require_positive(kind(op), "n", op.n);
  require_positive(kind(op), "k", op.k);
}

}  // namespace tessera::models
