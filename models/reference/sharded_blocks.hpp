#pragma once
// Float64 numerics of MLA and KDA blocks (from normed rows to the branch added to the residual stream), whole
// and by the sharded dataflow (models/dataflow/latent_attention, linear_attention).

#include <cstdint>
#include <vector>

#include "models/reference/latent.hpp"
#include "models/reference/linear_attention.hpp"
#include "models/sharding/sharding.hpp"

namespace tessera::models::reference {

/// [outputs, inputs] row-major.
struct MlaWeights {
  std::int64_t hidden = 0, q_lora = 0;  ///< q_lora 0: one matrix for the queries
  LatentShape shape;
  double theta = 0;                      ///< 0: the keys' and queries' shared part is not rotated
  std::vector<double> q_down, q_norm;    ///< [q_lora, hidden], [q_lora]
  std::vector<double> q;                 ///< [heads (nope + rope), q_lora or hidden]
  std::vector<double> kv_down, kv_norm;  ///< [latent + rope, hidden], [latent]
  LatentWeights up;
  std::vector<double> out;  ///< [hidden, heads value]
};

/// Rows of a sequence at positions 0, 1, 2, ..., causal, in the naive form.
std::vector<double> mla_block(const MlaWeights& w, const std::vector<double>& hidden_states);
/// CompNodes project the rows of R; AttnNode (j, k) forms keys and values of S_k's latent rows and attends to
/// them with S_j's queries; a row's owner merges. The sharding may go on beyond the rows.
std::vector<double> sharded_mla_block(const MlaWeights& w, const Sharding& sharding,
                                      const std::vector<double>& hidden_states);

/// beta x beta latent caches, row-major, of the rows that `hidden_states` has.
std::vector<Rows> sharded_latents(const MlaWeights& w, const Sharding& sharding,
                                  const std::vector<double>& hidden_states);
/// The token at `position`, a position of S_j, whose hidden row follows the cached ones: its latent row goes
/// to the caches of column j, its query, absorbed, to those of row j; what comes back are latents, merged
/// before W_uv. Its output row.
std::vector<double> sharded_mla_decode(const MlaWeights& w, const Sharding& sharding,
                                       std::vector<Rows>& caches, std::int32_t position,
                                       const std::vector<double>& hidden_state);

/// Heads shared out over `states.size()` nodes, each with the state of its own: node a of n has heads
/// [H a / n, H (a + 1) / n), maybe none. CompNodes project and finish the rows of R.
std::vector<double> sharded_kda_block(const KdaWeights& w, const Partition& r,
                                      const std::vector<double>& hidden_states, std::vector<KdaState>& states,
                                      std::int64_t chunk);
/// Segments of consecutive tokens, [T a / nodes, T (a + 1) / nodes) on node a (some maybe empty), all heads:
/// every segment gets the rows before it that its convolutions read, forms its map of the state, folds the
/// maps of the segments before it to the state it starts from, and goes on from that. `state` is the one
/// before the first token, and becomes that after the last.
std::vector<double> segmented_kda_block(const KdaWeights& w, const Partition& r, std::int64_t nodes,
                                        const std::vector<double>& hidden_states, KdaState& state,
                                        std::int64_t chunk);
/// The states before the first token.
std::vector<KdaState> empty_states(const KdaWeights& w, std::int64_t nodes);

}  // namespace tessera::models::reference
