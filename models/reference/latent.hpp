#pragma once
// Float64 numerics of multi-head latent attention, naive and absorbed, whole and in shards
// (docs/operators/mla.md). What is cached of a token, and what crosses a wire to an AttnNode, is one row of
// latent + rope columns, the same for all heads.

#include <cstdint>
#include <vector>

#include "models/reference/attention.hpp"

namespace tessera::models::reference {

struct LatentShape {
  std::int64_t heads = 1, latent = 1, nope = 1, rope = 1, value = 1;
  std::int64_t query_width() const { return heads * (nope + rope); }
  std::int64_t cache_width() const { return latent + rope; }
  /// Scores are scaled by 1 / sqrt of the naive form's width, in both forms.
  double scale() const;
  /// Of partials as returned below: out is [rows, heads, value].
  HeadShape merged() const { return {heads, heads, value}; }
  HeadShape merged_latents() const { return {heads, heads, latent}; }
};

/// Row-major. q_nope W_uk turns a head's query into one for the latent, W_uv a latent result into a head's.
struct LatentWeights {
  std::vector<double> up_k;  ///< W_uk, [heads, nope, latent]
  std::vector<double> up_v;  ///< W_uv, [heads, value, latent]
};

/// What is cached of tokens: the latents beside the keys that all heads share, already rotated.
Rows latent_cache(const LatentShape& shape, const std::vector<std::int32_t>& positions,
                  const std::vector<double>& latents, const std::vector<double>& rope_keys);

/// Forms k_h = [W_uk_h c ; k_r] and v_h = W_uv_h c of the cached rows, then attends. Queries are [rows,
/// heads, nope + rope], rotated; a causal mask shows position p the positions <= p.
Partial naive_latent_attention(const LatentShape& shape, const LatentWeights& weights, const Rows& queries,
                               const Rows& cache, bool causal);
/// [q_n W_uk_h ; q_r] of every head: [rows, heads, latent + rope].
Rows absorb(const LatentShape& shape, const LatentWeights& weights, const Rows& queries);
/// Scores absorbed queries against the cached rows themselves and sums the latents: out is [rows, heads,
/// latent].
Partial attend_to_latents(const LatentShape& shape, const Rows& absorbed, const Rows& cache, bool causal);
/// W_uv_h of every head's latent: [rows, heads, value].
std::vector<double> values_of(const LatentShape& shape, const LatentWeights& weights,
                              const std::vector<double>& latents);
/// These three in turn. Equal to the naive form in exact arithmetic.
Partial absorbed_latent_attention(const LatentShape& shape, const LatentWeights& weights, const Rows& queries,
                                  const Rows& cache, bool causal);

}  // namespace tessera::models::reference
