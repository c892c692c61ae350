#pragma once
// Float64 numerics of native sparse attention (arXiv 2502.11089) and DeepSeek sparse attention
// (DeepSeek-V3.2) of whole sequences 0 .. rows - 1, causal. docs/operators/sparse.md has the equations.

#include <cstdint>
#include <vector>

#include "models/reference/attention.hpp"
#include "models/reference/latent.hpp"

namespace tessera::models::reference {

struct NativeSparseRule {
  std::int64_t compressed = 32, stride = 16, block = 64, selected = 16, window = 512;
  std::int64_t first = 1,
               local = 2;  ///< blocks always taken: the first ones, and the last ones up to the own
};

/// Means of every `compressed` rows, `stride` apart: at the position of the last row they cover.
Rows compress(const NativeSparseRule& rule, const Rows& rows, std::int64_t width);

/// The blocks of a row, by key head: [rows, kv_heads], sorted. A block's importance is the compressed keys'
/// softmax, summed over the query heads of the group and over the compressed keys that share a stride with
/// it.
std::vector<std::vector<std::int32_t>> selected_blocks(const HeadShape& shape, const NativeSparseRule& rule,
                                                       const Rows& q, const Rows& compressed_k);

/// sum_c gates[row, head, c] attention_c, c = compressed, selected, window.
std::vector<double> native_sparse(const HeadShape& shape, const NativeSparseRule& rule, const Rows& q,
                                  const Rows& k, const Rows& v, const std::vector<double>& gates);

struct Indexer {
  std::int64_t heads = 1, dim = 1, selected = 1;
};

/// The rows that each row attends to, sorted: those with the greatest sum_j weights[row, j] relu(q[row, j] .
/// k[s]) among s <= row, the earlier of equals first. q [rows, heads, dim], weights [rows, heads], k [rows,
/// dim].
std::vector<std::vector<std::int32_t>> indexed_rows(const Indexer& indexer, std::int64_t rows,
                                                    const std::vector<double>& q,
                                                    const std::vector<double>& weights,
                                                    const std::vector<double>& k);

/// Absorbed latent attention of each row to its own list of cached rows: [rows, heads, value].
std::vector<double> indexed_latent_attention(const LatentShape& shape, const LatentWeights& weights,
                                             const Rows& queries, const Rows& cache,
                                             const std::vector<std::vector<std::int32_t>>& lists);

}  // namespace tessera::models::reference
