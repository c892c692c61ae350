#include "models/operators/experts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace tessera::models {

namespace {

constexpr std::int64_t kScoreBytes = 4, kChoiceBytes = 8;  // fp32; index and weight, 4 B each

void require_at_most(std::string_view kind, std::string_view name, std::int64_t value, std::string_view of,
                     std::int64_t most) {
  if (value > most)
    throw std::invalid_argument{
        fmt::format("{}: {} ({}) must not exceed {} ({})", kind, name, value, of, most)};
}

}  // namespace

std::int64_t Moe::rows() const {
  return loads ? std::accumulate(loads->begin(), loads->end(), std::int64_t{0}) : 0;
}
std::int64_t Moe::active_experts() const {
  return loads ? std::count_if(loads->begin(), loads->end(), [](std::int32_t n) { return n > 0; }) : 0;
}

std::int64_t Moe::between_bytes() const {
  return tokens * topk * (std::max((matrices() - 1) * intermediate, hidden) + intermediate) * bytes_of(dtype);
}

std::string_view kind(const Router&) { return "moe_router"; }
std::string_view kind(const Moe&) { return "moe"; }

// softmax: maximum, difference, exponential, sum, product; sigmoid: negate, exponential, sum, reciprocal,
// bias.
double flops(const Router& op) {
  return 5 * product({op.tokens, op.experts}) + 2 * product({op.tokens, op.topk});
}
double flops(const Moe& op) {
  // The products; SwiGLU (see Activation), or two of relu(x)^2; weight and sum.
  return product({op.rows(), op.intermediate}) *
             (2 * static_cast<double>(op.matrices() * op.hidden) + (op.gated ? 6 : 2)) +
         2 * product({op.rows(), op.hidden});
}

std::vector<Operand> operands(const Router& op) {
  return {{"logits", op.tokens * op.experts * kScoreBytes, false},
          {"choices", op.tokens * op.topk * kChoiceBytes, true}};
}
std::vector<Operand> operands(const Moe& op) {
  const std::int64_t e = bytes_of(op.dtype);
  return {{"hidden", std::min(op.tokens, std::max<std::int64_t>(op.rows(), 1)) * op.hidden * e, false},
          {"choices", op.tokens * op.topk * kChoiceBytes, false},
          {"weights",
           std::max<std::int64_t>(op.active_experts(), 1) * op.matrices() * op.hidden * op.intermediate * e,
           false},
          {"out", op.tokens * op.hidden * e, true}};
}

std::string signature(const Router& op) {
  return fmt::format("moe_router {} e{} k{} {} g{}", op.tokens, op.experts, op.topk,
                     op.score == RouterScore::softmax ? "softmax" : "sigmoid", op.groups);
}
std::string signature(const Moe& op) {
  return fmt::format("moe {} {}x{}{} e{}/{} k{} {:x} {}", op.tokens, op.hidden, op.intermediate,
                     op.gated ? "" : " ungated", op.experts, op.all_experts, op.topk, hash_of(op.loads),
                     name_of(op.dtype));
}

void require_possible(const Router& op) {
  require_positive(kind(op), "tokens", op.tokens);
  require_positive(kind(op), "experts", op.experts);
  require_positive(kind(op), "topk", op.topk);
  require_positive(kind(op), "groups", op.groups);
  require_at_most(kind(op), "topk", op.topk, "experts", op.experts);
  if (op.experts % op.groups != 0) {
    throw std::invalid_argument{
        fmt::format("moe_router: experts ({}) must be a multiple of groups ({})", op.experts, op.groups)};
  }
}
void require_possible(const Moe& op) {
  require_positive(kind(op), "tokens", op.tokens);
  require_positive(kind(op), "hidden", op.hidden);
  require_positive(kind(op), "intermediate", op.intermediate);
  require_positive(kind(op), "experts", op.experts);
  require_positive(kind(op), "topk", op.topk);
  require_at_most(kind(op), "experts", op.experts, "all_experts", op.all_experts);
  require_at_most(kind(op), "topk", op.topk, "all_experts", op.all_experts);
  if (!op.loads || static_cast<std::int64_t>(op.loads->size()) != op.experts) {
    throw std::invalid_argument{
        fmt::format("moe: {} loads for {} experts", op.loads ? op.loads->size() : 0, op.experts)};
  }
  for (const std::int32_t rows : *op.loads) {
    if (rows < 0 || rows > op.tokens)
      throw std::invalid_argument{fmt::format("moe: an expert has {} rows of {} tokens", rows, op.tokens)};
  }
  require_at_most(kind(op), "the sum of the loads", op.rows(), "tokens x topk", op.tokens * op.topk);
}

}  // namespace tessera::models
