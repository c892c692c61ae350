#include "models/architecture/architecture.hpp"

namespace tessera::models {

std::int64_t Architecture::parameters() const {
  const std::int64_t q = heads * head_dim, kv = kv_heads * head_dim;
  const std::int64_t norm_size = norm == NormKind::layer ? 2 * hidden : hidden;
  std::int64_t layer =
      hidden * (q + 2 * kv) + q * hidden + (gated_mlp ? 3 : 2) * hidden * intermediate + 2 * norm_size;
  if (qkv_bias) layer += q + 2 * kv;
  if (output_bias) layer += hidden;
  if (mlp_bias) layer += (gated_mlp ? 2 : 1) * intermediate + hidden;
  if (qk_norm) layer += 2 * head_dim;
  std::int64_t total = layers * layer + vocab * hidden;
  // One more norm: after the last layer, or (post-norm) after the embedding.
  total += norm_size;
  if (learned_positions) total += max_positions * hidden;
  total += token_types * hidden;
  if (pooler) total += hidden * hidden + hidden;
  if (language_head && !tied_embeddings) total += vocab * hidden;
  return total;
}

std::int64_t Architecture::kv_bytes_per_token() const {
  return layers * 2 * kv_heads * head_dim * bytes_of(dtype);
}

}  // namespace tessera::models
