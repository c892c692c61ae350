#pragma once
// What a model computes, as data: one operator is the work of one kernel call on one node.
//
// Every operator knows its FLOPs (one FMA = 2) and the bytes it must at least read and write once.
// Shapes are per call, after sharding. Layouts are row-major with the last dimension contiguous:
// activations [rows, width], q [rows, heads, head_dim], k and v [rows, kv_heads, head_dim].
//
// A family of operators has a file of its own, in which each gives kind, flops, operands, signature and
// require_possible; here they are one type. docs/operators.md says how to add one.

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "models/operators/attention.hpp"
#include "models/operators/block_sparse.hpp"
#include "models/operators/experts.hpp"
#include "models/operators/gemm.hpp"
#include "models/operators/latent.hpp"
#include "models/operators/linear_attention.hpp"
#include "models/operators/operand.hpp"
#include "models/operators/per_token.hpp"
#include "models/operators/token_sparse.hpp"

namespace tessera::models {

using Operator = std::variant<Gemm, Attention, AttentionDecode, Merge, Norm, Rope, Activation, Softmax, Copy,
                              Embedding, LinearAttention, StateScan, LinearDecode, CausalConv1d, BatchedGemm,
                              LatentAttention, LatentDecode, Moba, BlockPool, BlockGate, BlockSparseAttention,
                              Router, Moe, Sum, NativeSparse, IndexedLatent>;

/// "gemm", "attention_prefill", ... : the kernel kind of the command line.
std::string_view kind_of(const Operator& op);
/// Floating-point operations of the mathematical definition (masked pairs not counted).
double flops_of(const Operator& op);
/// Every operand of the operator, inputs first.
std::vector<Operand> operands_of(const Operator& op);
/// The bytes of all operands: the least traffic a kernel can cause.
std::int64_t min_bytes_of(const Operator& op);
/// A text that is equal for two operators exactly when they cost the same; used to find repetition.
std::string signature_of(const Operator& op);
/// Throws std::invalid_argument naming the dimension if a shape is impossible (zero heads, heads not a
/// multiple of kv_heads, ...).
void check(const Operator& op);

}  // namespace tessera::models
