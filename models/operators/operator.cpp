#include "models/operators/operator.hpp"

namespace tessera::models {

std::string_view kind_of(const Operator& op) {
  return std::visit([](const auto& o) { return kind(o); }, op);
}

double flops_of(const Operator& op) {
  return std::visit([](const auto& o) { return flops(o); }, op);
}

std::vector<Operand> operands_of(const Operator& op) {
  return std::visit([](const auto& o) { return operands(o); }, op);
}

std::int64_t min_bytes_of(const Operator& op) {
  std::int64_t bytes = 0;
  for (const Operand& o : operands_of(op)) bytes += o.bytes;
  return bytes;
}

std::string signature_of(const Operator& op) {
  return std::visit([](const auto& o) { return signature(o); }, op);
}

void check(const Operator& op) {
  std::visit([](const auto& o) { require_possible(o); }, op);
}

}  // namespace tessera::models
