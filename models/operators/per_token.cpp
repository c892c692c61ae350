#include "models/operators/per_token.hpp"

#include <fmt/format.h>

#include <stdexcept>

namespace tessera::models {

namespace {

template <class Op>
void require_rows_and_width(const Op& op) {
  require_positive(kind(op), "rows", op.rows);
  require_positive(kind(op), "width", op.width);
}

}  // namespace

std::string_view kind(const Norm&) { return "norm"; }
std::string_view kind(const Rope&) { return "rope"; }
std::string_view kind(const Activation&) { return "activation"; }
std::string_view kind(const Softmax&) { return "softmax"; }
std::string_view kind(const Sum&) { return "sum"; }
std::string_view kind(const Copy&) { return "memcpy"; }
std::string_view kind(const Embedding&) { return "embedding"; }

// rms: square-sum FMA, two products; layer: sum, centred square-sum, difference, FMA; residual: a sum.
double flops(const Norm& op) {
  return product({op.rows, op.width}) * ((op.kind == NormKind::rms ? 4 : 6) + (op.residual ? 1 : 0));
}
double flops(const Rope& op) { return 3 * product({op.rows, op.heads + op.kv_heads, op.head_dim}); }
// swiglu: negate, exp, add, reciprocal, two products; gelu (tanh): four FMAs, tanh, two products.
double flops(const Activation& op) {
  return product({op.rows, op.width}) * (op.kind == ActivationKind::swiglu ? 6 : 11);
}
double flops(const Softmax& op) { return 5 * product({op.rows, op.width}); }
double flops(const Sum& op) { return product({op.inputs - op.rows, op.width}); }
double flops(const Copy&) { return 0; }
double flops(const Embedding&) { return 0; }

std::vector<Operand> operands(const Norm& op) {
  const std::int64_t row = op.width * bytes_of(op.dtype);
  std::vector<Operand> o{{"in", op.rows * row, false}};
  if (op.residual) o.push_back({"residual", op.rows * row, false});
  o.push_back({"weight", row, false});
  o.push_back({"out", op.rows * row, true});
  if (op.residual) o.push_back({"sum", op.rows * row, true});
  return o;
}
std::vector<Operand> operands(const Rope& op) {
  const std::int64_t q = op.rows * op.heads * op.head_dim * bytes_of(op.dtype);
  const std::int64_t k = op.rows * op.kv_heads * op.head_dim * bytes_of(op.dtype);
  return {{"q", q, false}, {"k", k, false}, {"q_out", q, true, 0}, {"k_out", k, true, 1}};
}
std::vector<Operand> operands(const Activation& op) {
  const std::int64_t out = op.rows * op.width * bytes_of(op.dtype);
  return {{"in", op.kind == ActivationKind::swiglu ? 2 * out : out, false}, {"out", out, true}};
}
std::vector<Operand> operands(const Softmax& op) {
  const std::int64_t bytes = op.rows * op.width * bytes_of(op.dtype);
  return {{"in", bytes, false}, {"out", bytes, true}};
}
std::vector<Operand> operands(const Sum& op) {
  const std::int64_t row = op.width * bytes_of(op.dtype);
  return {{"in", op.inputs * row, false}, {"out", op.rows * row, true}};
}
std::vector<Operand> operands(const Copy& op) {
  return {{"source", op.bytes, false}, {"destination", op.bytes, true}};
}
std::vector<Operand> operands(const Embedding& op) {
  const std::int64_t bytes = op.rows * op.width * bytes_of(op.dtype);
  return {{"table", bytes, false}, {"out", bytes, true}};
}

std::string signature(const Norm& op) {
  return fmt::format("norm {}x{} {}{} {}", op.rows, op.width, op.kind == NormKind::rms ? "rms" : "layer",
                     op.residual ? " residual" : "", name_of(op.dtype));
}
std::string signature(const Rope& op) {
  return fmt::format("rope {} h{}/{}x{} {}", op.rows, op.heads, op.kv_heads, op.head_dim, name_of(op.dtype));
}
std::string signature(const Activation& op) {
  return fmt::format("activation {}x{} {} {}", op.rows, op.width,
                     op.kind == ActivationKind::swiglu ? "swiglu" : "gelu", name_of(op.dtype));
}
std::string signature(const Softmax& op) {
  return fmt::format("softmax {}x{} {}", op.rows, op.width, name_of(op.dtype));
}
std::string signature(const Sum& op) {
  return fmt::format("sum {} of {}x{} {}", op.rows, op.inputs, op.width, name_of(op.dtype));
}
std::string signature(const Copy& op) { return fmt::format("memcpy {}", op.bytes); }
std::string signature(const Embedding& op) {
  return fmt::format("embedding {}x{} {}", op.rows, op.width, name_of(op.dtype));
}

void require_possible(const Norm& op) { require_rows_and_width(op); }
void require_possible(const Rope& op) {
  require_positive(kind(op), "rows", op.rows);
  require_heads(kind(op), op.heads, op.kv_heads, op.head_dim);
}
void require_possible(const Activation& op) { require_rows_and_width(op); }
void require_possible(const Softmax& op) { require_rows_and_width(op); }
void require_possible(const Sum& op) {
  require_rows_and_width(op);
  if (op.inputs < op.rows)
    throw std::invalid_argument{
        fmt::format("sum: inputs ({}) must not be fewer than rows ({})", op.inputs, op.rows)};
}
void require_possible(const Copy& op) { require_positive(kind(op), "bytes", op.bytes); }
void require_possible(const Embedding& op) { require_rows_and_width(op); }

}  // namespace tessera::models
