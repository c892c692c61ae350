#pragma once
// Float64 numerics of the linear attention family: token by token, in chunks (WY/UT form), in segments that a
// scan combines, and by heads. Slow and plain: what every placement of it must equal.
//
// Per head, with state S [k_dim, v_dim], decay a_t = exp(g_t), strength b_t and scale k_dim^-1/2:
//   S' = diag(a_t) S;  d_t = b_t (v_t - S'^T k_t) (delta rule) or b_t v_t;  S = S' + k_t d_t^T;  o_t = scale
//   S^T q_t
// (arXiv 2510.26692, eq. 1; tables 6 and 7 for the relatives).
//
// Layouts: q, k [tokens, heads, k_dim]; v, out [tokens, heads, v_dim]; states [heads, k_dim, v_dim];
// row-major.

#include <cstdint>
#include <vector>

#include "models/operators/linear_attention.hpp"

namespace tessera::models::reference {

struct LinearShape {
  std::int64_t heads = 1, k_dim = 1, v_dim = 1;
  std::int64_t state_values() const { return heads * k_dim * v_dim; }
};

/// One sequence, or a piece of one.
struct LinearTokens {
  std::int64_t tokens = 0;
  std::vector<double> q, k, v;
  /// g = ln a: [tokens, heads, k_dim] (Decay::vector), [tokens, heads] (scalar), [heads] (constant), empty
  /// (none).
  std::vector<double> log_decay = {};
  std::vector<double> beta = {};  ///< [tokens, heads]; not read unless the rule has a strength
};

struct LinearResult {
  std::vector<double> out, state;
};

/// What a segment does to the state that reaches it: S -> P S + Q, per head. An empty one is the identity.
struct StateMap {
  std::vector<double> p;  ///< [heads, k_dim, k_dim]
  std::vector<double> q;  ///< [heads, k_dim, v_dim]
};

LinearResult recurrent(const Recurrence& rule, const LinearShape& shape, const LinearTokens& in,
                       const std::vector<double>& state);
/// The form that kernels use: within a chunk (I + A) U = diag(b) V and (I + A) W = diag(b) (e^G K) by forward
/// substitution, with A_ij = b_i sum_c k_ic k_jc e^(G_ic - G_jc) for j < i, G the running sum of g; then D =
/// U - W S.
LinearResult chunkwise(const Recurrence& rule, const LinearShape& shape, const LinearTokens& in,
                       const std::vector<double>& state, std::int64_t chunk);

StateMap state_map(const Recurrence& rule, const LinearShape& shape, const LinearTokens& in);
/// `first`, then `second`: P = P2 P1, Q = P2 Q1 + Q2. Associative: segments combine by a scan.
StateMap then(const LinearShape& shape, const StateMap& first, const StateMap& second);
std::vector<double> apply(const LinearShape& shape, const StateMap& map, const std::vector<double>& state);

/// Tokens [first, first + count).
LinearTokens slice_tokens(const Recurrence& rule, const LinearShape& shape, const LinearTokens& in,
                          std::int64_t first, std::int64_t count);
/// Heads [first, first + count) of all tokens.
LinearTokens slice_heads(const Recurrence& rule, const LinearShape& shape, const LinearTokens& in,
                         std::int64_t first, std::int64_t count);

/// Segments of the given lengths (zero allowed), each on a node of its own: the maps, their exclusive scan,
/// then each segment in chunks from the state that the scan gives it.
LinearResult segmented(const Recurrence& rule, const LinearShape& shape, const LinearTokens& in,
                       const std::vector<double>& state, const std::vector<std::int64_t>& lengths,
                       std::int64_t chunk);
/// Groups of heads of the given sizes (zero allowed), each on a node of its own.
LinearResult head_split(const Recurrence& rule, const LinearShape& shape, const LinearTokens& in,
                        const std::vector<double>& state, const std::vector<std::int64_t>& groups,
                        std::int64_t chunk);

/// Causal depthwise convolution over tokens: out[t, c] = sum_j w[c, j] x[t - taps + 1 + j, c]. `before` [taps
/// - 1, channels] are the inputs before the first token, and becomes those before the next.
std::vector<double> causal_conv1d(std::int64_t channels, std::int64_t taps, const std::vector<double>& x,
                                  const std::vector<double>& weights, std::vector<double>& before);

/// The weights of a KDA layer, each output-major as Linear layers have them.
struct KdaWeights {
  std::int64_t hidden = 0, heads = 0, head_dim = 0, rank = 0, taps = 4;
  std::vector<double> q, k, v;                 ///< [heads head_dim, hidden]
  std::vector<double> conv_q, conv_k, conv_v;  ///< [heads head_dim, taps]
  std::vector<double> decay_down, decay_up;    ///< [rank, hidden], [heads head_dim, rank]
  std::vector<double> a_log, dt_bias;          ///< [heads], [heads head_dim]
  std::vector<double> beta;                    ///< [heads, hidden]
  std::vector<double> gate_down, gate_up;      ///< as decay_down, decay_up
  std::vector<double> norm;                    ///< [head_dim]
  std::vector<double> out;                     ///< [hidden, heads head_dim]
};

/// What a sequence leaves behind for its next tokens.
struct KdaState {
  std::vector<double> state;                   ///< [heads, head_dim, head_dim]
  std::vector<double> conv_q, conv_k, conv_v;  ///< [taps - 1, heads head_dim]
};
/// Of `heads` heads; all of them if 0 is given.
KdaState empty_state(const KdaWeights& w, std::int64_t heads = 0);

/// What a KDA block computes of each row by itself, and the heads are then given of all rows.
struct KdaRows {
  std::vector<double> q, k, v, decay;  ///< [rows, heads head_dim], before convolution and activation
  std::vector<double> beta;            ///< [rows, heads], activated
};
KdaRows kda_rows(const KdaWeights& w, const std::vector<double>& hidden_states);
/// What the recurrence of heads [first, first + count) is given of consecutive tokens: convolutions and
/// activations of `rows`. The convolutions' inputs of `state` move on.
LinearTokens kda_tokens(const KdaWeights& w, std::int64_t first, std::int64_t count, const KdaRows& rows,
                        KdaState& state);
/// Heads [first, first + count) of consecutive tokens: `rows` and `state` have these heads only, the weights
/// all. Convolutions, activations, recurrence (token by token if chunk is 0). Returns [tokens, count,
/// head_dim].
std::vector<double> kda_heads(const KdaWeights& w, std::int64_t first, std::int64_t count,
                              const KdaRows& rows, KdaState& state, std::int64_t chunk);
/// Gated norm and output projection of rows, whose heads' results are `out`.
std::vector<double> kda_finish(const KdaWeights& w, const std::vector<double>& hidden_states,
                               std::vector<double> out);
/// A whole KDA block (arXiv 2510.26692, section 4): q, k = L2norm(SiLU(conv(W x))), v = SiLU(conv(W x)),
/// g = -exp(a_log) softplus(W_up W_down x + dt_bias), b = sigmoid(W_b x), the recurrence,
/// then W_o (RMSNorm(o) sigmoid(W_gup W_gdown x)). Token by token if chunk is 0.
std::vector<double> kda_block(const KdaWeights& w, const std::vector<double>& hidden_states, KdaState& state,
                              std::int64_t chunk);

}  // namespace tessera::models::reference
