#pragma once
// The linear attention family: a state of fixed size instead of a cache of keys and values. What its members
// differ in is data (Recurrence): one more member is one more row of kRecurrences.

#include <array>
#include <cstdint>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "models/operators/operand.hpp"

namespace tessera::models {

/// What the state is multiplied by at every token: nothing, a constant of each head, a number that each token
/// gives each head, or one for each key channel.
enum class Decay { none, constant, scalar, vector };

/// S' = diag(a_t) S;  S = S' + k_t (b_t (v_t - S'^T k_t))^T, or without `delta` S' + k_t (b_t v_t)^T;  o_t =
/// S^T q_t.
struct Recurrence {
  std::string_view prefill_kind, decode_kind;
  std::string_view name;
  Decay decay = Decay::none;
  bool delta = false;       ///< the delta rule: in chunks, a triangular system per chunk
  bool strength = false;    ///< b_t, a number for each token and head; else 1
  bool normalised = false;  ///< q and k are divided by their length first
};

// Equations: tables 6 and 7 of arXiv 2510.26692.
inline constexpr Recurrence kKda{"kda_prefill", "kda_decode", "Kimi Delta Attention", Decay::vector, true,
                                 true,          true};
inline constexpr Recurrence kGatedDelta{"gdn_prefill", "gdn_decode", "gated delta net", Decay::scalar, true,
                                        true,          true};
inline constexpr Recurrence kMamba2{
    "mamba2_prefill", "mamba2_decode", "Mamba-2", Decay::scalar, false, true, false};
inline constexpr Recurrence kRetNet{
    "retnet_prefill", "retnet_decode", "RetNet", Decay::constant, false, false, false};
inline constexpr std::array kRecurrences{kKda, kGatedDelta, kMamba2, kRetNet};

/// What a call does for a segment of a sequence whose first state other segments decide
/// (docs/operators/kda.md). What `map` prepares of the chunks, `rest` goes on with: it stays in memory.
enum class SegmentPart : std::uint8_t {
  none,  ///< a sequence that nothing comes before, or from a state that is there: everything
  map,   ///< all that needs no state, and the segment's map of states: S -> P S + Q
  rest,  ///< from its state on: the states before the chunks, the tokens' results, the last state
};

/// Whose kernels compute a chunkwise call.
enum class ChunkKernels : std::uint8_t {
  fla,        ///< flash-linear-attention's Triton kernels, in chunks of 64
  flash_kda,  ///< MoonshotAI/FlashKDA's two CUTLASS kernels, in chunks of 16
};

/// Whole sequences, or segments of them, in chunks.
struct LinearAttention {
  Recurrence rule = kKda;
  std::int64_t batch = 1, seq = 0, heads = 0;
  std::int64_t k_dim = 128, v_dim = 128;
  std::int64_t chunk = 64;
  bool initial_state = true;  ///< each sequence starts from a state, else from zeros
  SegmentPart part = SegmentPart::none;
  Dtype dtype = Dtype::bf16;  ///< of everything but the state, which is fp32
  ChunkKernels kernels = ChunkKernels::fla;
  std::vector<std::int64_t> lengths = {};  ///< of `batch` sequences, `seq` the longest; empty: all `seq`

  std::int64_t tokens() const {
    return lengths.empty() ? batch * seq : std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
  }
  std::int64_t length_of(std::int64_t sequence) const {
    return lengths.empty() ? seq : lengths[static_cast<std::size_t>(sequence)];
  }
};

/// The state that reaches a segment: S = P_n (... (P_1 S_0 + Q_1) ...) + Q_n of the n segments before it,
/// from a state S_0 or from zeros. All in fp32.
struct StateScan {
  std::int64_t batch = 1, heads = 0;
  std::int64_t k_dim = 128, v_dim = 128;
  std::int64_t maps = 0;  ///< n
  bool initial_state = false;
};

/// Which kernel a decode step runs.
enum class DecodeForm {
  packed,  ///< the recurrence alone, on q, k, v side by side
  fused,   ///< with the short convolution before and the gated norm after it
  verify,  ///< of some drafted tokens: the state after each is written beside the state, which stays
};

/// A few new tokens of each sequence, one by one.
struct LinearDecode {
  Recurrence rule = kKda;
  std::int64_t batch = 1, heads = 0, tokens = 1;
  std::int64_t k_dim = 128, v_dim = 128;
  DecodeForm form = DecodeForm::packed;
  Dtype dtype = Dtype::bf16;
};

/// Depthwise causal convolution over `seq` tokens, with SiLU, of `convs` streams of `channels` that lie side
/// by side (q, k and v of the projections). Keeps the last taps - 1 inputs of each channel as its state.
struct CausalConv1d {
  std::int64_t batch = 1, seq = 0, channels = 0;
  std::int64_t convs = 3, taps = 4;
  bool update = false;  ///< the decode form: one kernel, every token a row of its own
  Dtype dtype = Dtype::bf16;
};

/// One sequence's state, fp32.
std::int64_t state_bytes(const LinearAttention& op);
std::int64_t state_bytes(const LinearDecode& op);
std::int64_t state_bytes(const StateScan& op);
/// P and Q of one segment of one sequence, fp32.
std::int64_t map_bytes(std::int64_t heads, std::int64_t k_dim, std::int64_t v_dim);
/// One sequence's inputs kept for the next token.
std::int64_t state_bytes(const CausalConv1d& op);
/// Bytes of state that a call reads and writes, of all sequences.
std::int64_t state_traffic_bytes(const LinearAttention& op);
std::int64_t state_traffic_bytes(const LinearDecode& op);

std::string_view kind(const LinearAttention& op);
std::string_view kind(const StateScan& op);
std::string_view kind(const LinearDecode& op);
std::string_view kind(const CausalConv1d& op);
double flops(const LinearAttention& op);
double flops(const StateScan& op);
double flops(const LinearDecode& op);
double flops(const CausalConv1d& op);
std::vector<Operand> operands(const LinearAttention& op);
std::vector<Operand> operands(const StateScan& op);
std::vector<Operand> operands(const LinearDecode& op);
std::vector<Operand> operands(const CausalConv1d& op);
std::string signature(const LinearAttention& op);
std::string signature(const StateScan& op);
std::string signature(const LinearDecode& op);
std::string signature(const CausalConv1d& op);
void require_possible(const LinearAttention& op);
void require_possible(const StateScan& op);
void require_possible(const LinearDecode& op);
void require_possible(const CausalConv1d& op);

}  // namespace tessera::models
