#pragma once
// Mixture of experts: choosing the experts of each token, and the routed experts' layer.

#include <string>
#include <string_view>
#include <vector>

#include "models/operators/expert_load.hpp"
#include "models/operators/operand.hpp"

namespace tessera::models {

enum class RouterScore { softmax, sigmoid };
/// From the router's logits [tokens, experts], fp32, to each token's topk experts and their weights. The
/// product that makes the logits is a Gemm of its own.
struct Router {
  std::int64_t tokens = 0, experts = 0, topk = 0;
  RouterScore score = RouterScore::softmax;
  std::int64_t groups = 1;  ///< more than one: experts are chosen from the best groups only
};

/// The routed experts on one node: gate and up projection, SwiGLU, down projection, and the sum of each
/// token's results by its router weights. With expert parallelism a node holds `experts` of `all_experts`,
/// and only the rows that chose one of them; with tensor parallelism `intermediate` is the node's share.
/// Shared experts are ordinary products.
struct Moe {
  std::int64_t tokens = 0;  ///< in the batch; a token's row may have no expert here
  std::int64_t hidden = 0, intermediate = 0;
  std::int64_t experts = 0, all_experts = 0;
  std::int64_t topk = 0;
  ExpertLoads loads;  ///< rows of each of `experts`
  Dtype dtype = Dtype::bf16;
  bool gated = true;  ///< SwiGLU; else one projection up and relu(x)^2 (Nemotron-H)

  std::int64_t rows() const;            ///< of all experts here
  std::int64_t active_experts() const;  ///< with at least one row: whose weights are read
  /// Of the arrays between the kernels: gate and up (or, later, the results), and their product.
  std::int64_t between_bytes() const;
  std::int64_t matrices() const { return gated ? 3 : 2; }  ///< of an expert
};

std::string_view kind(const Router& op);
std::string_view kind(const Moe& op);
double flops(const Router& op);
double flops(const Moe& op);
std::vector<Operand> operands(const Router& op);
std::vector<Operand> operands(const Moe& op);
std::string signature(const Router& op);
std::string signature(const Moe& op);
void require_possible(const Router& op);
void require_possible(const Moe& op);

}  // namespace tessera::models
