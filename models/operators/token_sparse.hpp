#pragma once
// Sparse attention whose every query row takes tokens or short blocks of its own: native sparse attention
// (NSA, arXiv 2502.11089) and DeepSeek sparse attention (DSA, DeepSeek-V3.2). docs/operators/sparse.md.

#include <string>
#include <string_view>
#include <vector>

#include "models/operators/operand.hpp"

namespace tessera::models {

/// NSA's prefill of whole sequences, causal: three attentions of each row, over compressed keys, over the
/// selected blocks and over a window, summed with the row's gates. Query heads of a group take the same
/// blocks. q, out [rows, heads, head_dim]; k, v [rows, kv_heads, head_dim]; gates [rows, heads, 3].
struct NativeSparse {
  std::int64_t batch = 1;
  std::int64_t seq = 0, heads = 0, kv_heads = 0, head_dim = 128;
  std::int64_t compressed = 32,
               stride = 16;                ///< a compressed key stands for `compressed` rows, every `stride`
  std::int64_t block = 64, selected = 16;  ///< blocks of a row, its own, the first and the one before counted
  std::int64_t window = 512;               ///< rows, the own one counted
  Dtype dtype = Dtype::bf16;

  /// Compressed keys that row `row` sees, those that end at or before it; of `seq` rows, all there are.
  std::int64_t compressed_seen(std::int64_t row) const {
    return row + 1 < compressed ? 0 : (row + 1 - compressed) / stride + 1;
  }
  std::int64_t compressed_keys() const { return compressed_seen(seq - 1); }
  /// Keys in the blocks that row `row` takes, those it sees of its own block.
  std::int64_t selected_seen(std::int64_t row) const;
};

/// DSA over absorbed latents (LatentDecode), of the last `q_rows` rows of each sequence: an indexer scores
/// every cached row, I = sum_j w_j relu(q_j . k) over its heads, and all heads attend to the `selected` rows
/// that score most. index_q [rows, index_heads, index_dim], index_weights [rows, index_heads] of fp32,
/// index_k [context, index_dim]; the rest as of LatentDecode.
struct IndexedLatent {
  std::int64_t batch = 1;
  std::int64_t context = 0, q_rows = 1;
  std::int64_t heads = 0;
  std::int64_t index_heads = 64, index_dim = 128, selected = 2048;
  std::int64_t latent = 512, rope = 64;
  Dtype dtype = Dtype::bf16, index_dtype = Dtype::fp8;

  std::int64_t visible(std::int64_t q) const { return context - q_rows + q + 1; }
};

std::string_view kind(const NativeSparse& op);
std::string_view kind(const IndexedLatent& op);
double flops(const NativeSparse& op);
double flops(const IndexedLatent& op);
std::vector<Operand> operands(const NativeSparse& op);
std::vector<Operand> operands(const IndexedLatent& op);
std::string signature(const NativeSparse& op);
std::string signature(const IndexedLatent& op);
void require_possible(const NativeSparse& op);
void require_possible(const IndexedLatent& op);

}  // namespace tessera::models
