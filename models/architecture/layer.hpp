#pragma once
// What a layer of a model is made of, as data: its attention and its feed-forward network.

#include <cstdint>
#include <string_view>
#include <variant>

#include "models/operators/operand.hpp"

namespace tessera::models {

/// Softmax attention; heads / kv_heads query heads share a key and value head.
struct DenseShape {
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
  std::int64_t window = 0;  ///< keys that a query sees, its own the last of them; 0: all
  bool rope = true;
  bool qk_norm = false;  ///< RMSNorm of each q and k head (Qwen3)
  bool qkv_bias = false, output_bias = false;

  std::int64_t q_width() const { return heads * head_dim; }
  std::int64_t kv_width() const { return kv_heads * head_dim; }
};

/// Positions from .. to - 1 of a sequence.
struct TokenRange {
  std::int64_t from = 0, to = 0;
  bool empty() const { return from >= to; }
  bool has(std::int64_t position) const { return from <= position && position < to; }
};

/// Mixture of block attention [arXiv 2502.13189]: in prefill a query sees the `topk` blocks of `block` keys
/// with the highest gate score, its own block among them; queries at the positions `full` see all earlier
/// keys. No weights are added; decoding is dense.
struct MobaShape {
  DenseShape dense;
  std::int64_t block = 0, topk = 0;
  TokenRange full;  ///< the same in all layers of a model
};

/// Multi-head latent attention [arXiv 2405.04434]: keys and values are up-projections of one latent row per
/// token, which is all that is cached beside one key part shared by the heads.
struct MlaShape {
  std::int64_t heads = 0;
  std::int64_t q_lora = 0;  ///< rank of the query projection; 0: one full matrix
  std::int64_t kv_lora = 0;
  std::int64_t nope = 0, rope = 0;  ///< of a head's query and key: from the latent, and shared
  std::int64_t v_dim = 0;
  bool rotated = true;  ///< false: the `rope` part is kept but not rotated (Kimi Linear)

  std::int64_t qk_dim() const { return nope + rope; }
  std::int64_t latent_width() const { return kv_lora + rope; }  ///< what a token leaves in the cache
};

/// Kimi delta attention [arXiv 2510.26692]: a gated delta rule with a state of k_dim x v_dim per head instead
/// of a cache, behind short causal convolutions of q, k and v.
struct KdaShape {
  std::int64_t heads = 0, k_dim = 0, v_dim = 0;
  std::int64_t taps = 0;                       ///< of each convolution; taps - 1 past inputs are kept
  std::int64_t decay_rank = 0, gate_rank = 0;  ///< of the decay's and the output gate's projections

  std::int64_t k_width() const { return heads * k_dim; }
  std::int64_t v_width() const { return heads * v_dim; }
};

using AttentionShape = std::variant<DenseShape, MobaShape, MlaShape, KdaShape>;

/// SwiGLU (gated) or GELU of one width.
struct MlpShape {
  std::int64_t width = 0;
  bool gated = true;
  bool bias = false;
};

/// Mixture of experts: every token goes through `topk` of the experts and through all shared ones, each a
/// SwiGLU network `width` wide.
struct MoeShape {
  enum class Score : std::uint8_t { softmax, sigmoid };

  std::int64_t experts = 0, topk = 0, width = 0;
  std::int64_t shared = 0;
  Score score = Score::softmax;
  bool score_bias = false;  ///< a bias per expert, for the choice only (DeepSeek-V3)
  bool normalised = true;   ///< the chosen weights are made to sum to one
  double scale = 1;         ///< of the routed experts' sum
  std::int64_t groups = 1;  ///< of experts; the choice is from the best `top_groups` of them
  std::int64_t top_groups = 1;
};

using FeedForwardShape = std::variant<MlpShape, MoeShape>;

struct Layer {
  AttentionShape attention;
  FeedForwardShape feed_forward;
};

/// "dense", "sliding window", "MoBA", "MLA", "MLA (NoPE)", "KDA".
std::string_view name_of(const AttentionShape& attention);
/// "MLP", "MoE".
std::string_view name_of(const FeedForwardShape& feed_forward);

/// Weights and biases, norms inside the attention included, for a residual stream `hidden` wide.
std::int64_t parameters_of(const AttentionShape& attention, std::int64_t hidden);
std::int64_t parameters_of(const FeedForwardShape& feed_forward, std::int64_t hidden);
/// Of those, the ones that one token meets: all but the experts that it is not sent to.
std::int64_t active_parameters_of(const FeedForwardShape& feed_forward, std::int64_t hidden);

/// What a further token adds to the layer's cache (under a window, until the window is full).
std::int64_t kv_bytes_per_token(const AttentionShape& attention, Dtype dtype);
/// What the layer keeps of a sequence whatever its length: KDA's states in fp32, as chunk and decode kernels
/// hold them, and the convolutions' past inputs in the model's type.
std::int64_t state_bytes_per_sequence(const AttentionShape& attention, Dtype dtype);

}  // namespace tessera::models
