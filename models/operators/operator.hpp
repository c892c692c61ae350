#pragma once
// What a model computes, as data: one operator is the work of one kernel call on one node.
//
// Every operator knows its FLOPs (one FMA = 2) and the bytes it must at least read and write once.
// Shapes are per call, after sharding. Layouts are row-major with the last dimension contiguous:
// activations [rows, width], q [rows, heads, head_dim], k and v [rows, kv_heads, head_dim].

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace tessera::models {

enum class Dtype { fp32, bf16, fp16, fp8 };
int bytes_of(Dtype dtype);
std::string_view name_of(Dtype dtype);

/// C[m,n] = A[m,k] B[n,k]^T (weights stored output-major, as Linear layers do).
struct Gemm {
  std::int64_t m = 0, n = 0, k = 0;
  Dtype dtype = Dtype::bf16;
};

/// The original positions of a shard's rows, strictly increasing. Null means 0, 1, 2, ...
using Positions = std::shared_ptr<const std::vector<std::int32_t>>;

/// softmax(q k^T * scale + mask) v for `batch` independent sequences.
/// With `partial`, returns out, row maximum and sum of exponentials, for a later Merge.
struct Attention {
  std::int64_t batch = 1;
  std::int64_t q_rows = 0, kv_rows = 0;  ///< per sequence
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
  bool causal = false;  ///< q row at position p sees kv positions <= p
  bool partial = false;
  Positions q_positions;  ///< null and causal: the q rows are the last q_rows of the kv rows
  Positions kv_positions;
  Dtype dtype = Dtype::bf16;
  int flash_version = 3;  ///< which kernel: FlashAttention-2 or -3
  /// A serving engine's call: the last q_rows of the kv rows are new and first written into a paged cache,
  /// through whose page table the kernel then reads. Causal, FlashAttention-3, not partial.
  bool paged = false;

  /// How many kv rows row `q` sees: with sorted positions the visible ones are always a prefix.
  std::int64_t visible(std::int64_t q) const;
  /// Visible (query, key) pairs of one head of one sequence.
  std::int64_t visible_pairs() const;
};

/// Rows of a page of a paged cache, and the table words that a call keeps for a sequence.
constexpr std::int64_t kPageRows = 64, kSequenceWords = 8;

/// One new query row per sequence against `context` cached kv rows (the row's own included).
struct AttentionDecode {
  std::int64_t batch = 1;
  std::int64_t context = 0;
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
  bool partial = false;
  Dtype dtype = Dtype::bf16;
  bool paged = false;  ///< as Attention::paged: one new row per sequence
};

/// Combines `parts` partial results per row and head by their (max, expsum).
struct Merge {
  std::int64_t rows = 0, heads = 0, head_dim = 0, parts = 0;
  Dtype dtype = Dtype::bf16;
};

enum class NormKind { rms, layer };
/// Normalises each row; with `residual`, first adds a second input and also writes the sum.
struct Norm {
  std::int64_t rows = 0, width = 0;
  NormKind kind = NormKind::rms;
  bool residual = false;
  Dtype dtype = Dtype::bf16;
};

/// Rotates q and k in place.
struct Rope {
  std::int64_t rows = 0, heads = 0, kv_heads = 0, head_dim = 0;
  Dtype dtype = Dtype::bf16;
};

enum class ActivationKind { swiglu, gelu };
/// swiglu: [rows, 2 width] -> [rows, width]; gelu: [rows, width] -> [rows, width].
struct Activation {
  std::int64_t rows = 0, width = 0;
  ActivationKind kind = ActivationKind::swiglu;
  Dtype dtype = Dtype::bf16;
};

/// Row softmax of an explicit score matrix.
struct Softmax {
  std::int64_t rows = 0, width = 0;
  Dtype dtype = Dtype::bf16;
};

/// Device-to-device copy: `bytes` read and as many written.
struct Copy {
  std::int64_t bytes = 0;
};

/// Gathers rows of an embedding table.
struct Embedding {
  std::int64_t rows = 0, width = 0;
  Dtype dtype = Dtype::bf16;
};

using Operator =
    std::variant<Gemm, Attention, AttentionDecode, Merge, Norm, Rope, Activation, Softmax, Copy, Embedding>;

/// "gemm", "attention_prefill", ... : the kernel kind of the command line.
std::string_view kind_of(const Operator& op);
/// Floating-point operations of the mathematical definition (masked pairs not counted).
double flops_of(const Operator& op);

/// One array that a kernel reads or writes, in the order of the kernel's operands.
struct Operand {
  std::string_view role;  ///< "a", "weights", "q", "k", "v", "out", ...
  std::int64_t bytes = 0;
  bool written = false;
};
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
