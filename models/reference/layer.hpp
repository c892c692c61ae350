#pragma once
// Float64 numerics of a whole layer of dense attention and an MLP, on one node and over CompNodes and
// AttnNodes. A model's first layer gives the shapes.

#include <cstdint>
#include <random>
#include <vector>

#include "models/architecture/architecture.hpp"
#include "models/reference/attention.hpp"
#include "models/sharding/sharding.hpp"

namespace tessera::models::reference {

/// Weights of one layer, [outputs, inputs] row-major, no biases.
struct LayerWeights {
  std::vector<double> norm1, norm2;  ///< [hidden]
  std::vector<double> q, k, v, o;
  std::vector<double> gate, up, down;  ///< gate empty unless the MLP is gated
  std::vector<double> q_norm, k_norm;  ///< [head_dim]; empty unless the model has qk_norm
};
LayerWeights random_weights(const Architecture& model, std::mt19937_64& random);

std::vector<double> rms_norm(const std::vector<double>& x, const std::vector<double>& weight,
                             std::int64_t width);
/// Zero mean, unit variance, times the weight (no bias).
std::vector<double> layer_norm(const std::vector<double>& x, const std::vector<double>& weight,
                               std::int64_t width);
/// y[rows, outputs] = x[rows, inputs] w[outputs, inputs]^T.
std::vector<double> linear(const std::vector<double>& x, const std::vector<double>& w, std::int64_t inputs,
                           std::int64_t outputs);
/// Rotates halves of each head by position (the Hugging Face convention), in place.
void rope(Rows& rows, std::int64_t heads, std::int64_t head_dim, double theta);
double silu(double x);
double gelu(double x);  ///< exact: x times the normal distribution function

/// One layer over the rows of a sequence at positions 0, 1, 2, ...; hidden states [tokens, hidden].
std::vector<double> layer(const Architecture& model, const LayerWeights& weights,
                          const std::vector<double>& hidden);
/// The same by the sharded dataflow: per-token work by CompNode over R, partial attention by AttnNode (j, k)
/// over S_j and S_k, merge at the owner of each row. The sharding may go on beyond the rows of `hidden`, with
/// the tokens to be decoded.
std::vector<double> sharded_layer(const Architecture& model, const LayerWeights& weights,
                                  const Sharding& sharding, const std::vector<double>& hidden);

/// The k (rotated) and v rows that one node holds of one layer, in order of position.
struct KvCache {
  Rows k, v;
};
/// The cache of a node that holds `positions`, given the layer's input at positions 0, 1, 2, ...
KvCache cache_of(const Architecture& model, const LayerWeights& weights,
                 const std::vector<std::int32_t>& positions, const std::vector<double>& hidden);
/// beta x beta caches, row-major: AttnNode (j, k) holds the rows of S_k that `hidden` has.
std::vector<KvCache> sharded_caches(const Architecture& model, const LayerWeights& weights,
                                    const Sharding& sharding, const std::vector<double>& hidden);

/// One decode step of a causal layer: the token at `position`, with input row `hidden`, after the cached
/// ones. Appends its k and v to the cache and returns its output row.
std::vector<double> decode(const Architecture& model, const LayerWeights& weights, KvCache& cache,
                           std::int32_t position, const std::vector<double>& hidden);
/// The same over AttnNodes. The token lies in S_j: its k and v go to the beta caches of column j, its q to
/// the beta AttnNodes of row j, each of which attends to its own cache only; the owner merges.
std::vector<double> sharded_decode(const Architecture& model, const LayerWeights& weights,
                                   const Sharding& sharding, std::vector<KvCache>& caches,
                                   std::int32_t position, const std::vector<double>& hidden);

}  // namespace tessera::models::reference
