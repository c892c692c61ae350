#pragma once
// Float64 numerics of a whole transformer layer, on one node and over CompNodes and AttnNodes.

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
/// over S_j and S_k, merge at the owner of each row.
std::vector<double> sharded_layer(const Architecture& model, const LayerWeights& weights,
                                  const Sharding& sharding, const std::vector<double>& hidden);

}  // namespace tessera::models::reference
