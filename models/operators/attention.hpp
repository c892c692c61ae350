#pragma once
// Dense attention: of whole sequences, of one new row per sequence, in shards, and the merge of shards.

#include <string>
#include <string_view>
#include <vector>

#include "models/operators/operand.hpp"

namespace tessera::models {

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
  /// FlashAttention-3's first release: causal tiles in the order of their rows, head after head, where later
  /// ones take the longest first.
  bool first_release = false;
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

std::string_view kind(const Attention& op);
std::string_view kind(const AttentionDecode& op);
std::string_view kind(const Merge& op);
double flops(const Attention& op);
double flops(const AttentionDecode& op);
double flops(const Merge& op);
std::vector<Operand> operands(const Attention& op);
std::vector<Operand> operands(const AttentionDecode& op);
std::vector<Operand> operands(const Merge& op);
std::string signature(const Attention& op);
std::string signature(const AttentionDecode& op);
std::string signature(const Merge& op);
void require_possible(const Attention& op);
void require_possible(const AttentionDecode& op);
void require_possible(const Merge& op);

}  // namespace tessera::models
