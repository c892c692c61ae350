#pragma once
// Float64 numerics of dense attention, whole and in shards. The yardstick for everything that computes
// attention: slow, plain, and exact to rounding.
//
// Layouts: q [rows, heads, head_dim]; k, v [rows, kv_heads, head_dim]; row-major.

#include <cstdint>
#include <vector>

namespace tessera::models::reference {

struct HeadShape {
  std::int64_t heads = 1, kv_heads = 1, head_dim = 1;
  std::int64_t q_width() const { return heads * head_dim; }
  std::int64_t kv_width() const { return kv_heads * head_dim; }
};

/// Rows of a sequence with their original positions (strictly increasing).
struct Rows {
  std::vector<std::int32_t> positions;
  std::vector<double> values;  ///< positions.size() rows
};

/// What an AttnNode returns: per row and head the normalised output, the row maximum m of the visible scores
/// and e = sum exp(score - m). A row that sees nothing has e = 0 and output 0.
struct Partial {
  std::vector<double> out;     ///< [rows, heads, head_dim]
  std::vector<double> max;     ///< [rows, heads]
  std::vector<double> expsum;  ///< [rows, heads]
};

/// softmax(q k^T / sqrt(head_dim) + mask) v; a causal mask shows position p the positions <= p.
Partial partial_attention(const HeadShape& shape, const Rows& q, const Rows& k, const Rows& v, bool causal);
std::vector<double> attention(const HeadShape& shape, const Rows& q, const Rows& k, const Rows& v,
                              bool causal);

/// out = sum_k w_k o_k / sum_k w_k with w_k = e_k exp(m_k - max m). Every part covers the same rows.
std::vector<double> merge(const HeadShape& shape, const std::vector<Partial>& parts);

}  // namespace tessera::models::reference
