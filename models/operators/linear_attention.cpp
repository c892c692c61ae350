#include "models/operators/linear_attention.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace tessera::models {

namespace {

constexpr std::int64_t kStateElement = 4;  // fp32

template <class Op>
std::int64_t all_states(const Op& op) {
  return op.batch * state_bytes(op);
}

/// Inputs of `tokens` tokens: q, k, v, then what the rule needs of decay and strength.
template <class Op>
std::vector<Operand> inputs(const Op& op, std::int64_t tokens) {
  const std::int64_t element = bytes_of(op.dtype), head_tokens = tokens * op.heads;
  std::vector<Operand> o{{"q", head_tokens * op.k_dim * element, false},
                         {"k", head_tokens * op.k_dim * element, false},
                         {"v", head_tokens * op.v_dim * element, false}};
  if (op.rule.decay == Decay::vector) o.push_back({"decay", head_tokens * op.k_dim * element, false});
  if (op.rule.decay == Decay::scalar) o.push_back({"decay", head_tokens * element, false});
  if (op.rule.decay == Decay::constant) o.push_back({"decay", op.heads * kStateElement, false});
  if (op.rule.strength) o.push_back({"strength", head_tokens * element, false});
  return o;
}

template <class Op>
void require_dims(const Op& op) {
  require_positive(kind(op), "batch", op.batch);
  require_positive(kind(op), "heads", op.heads);
  require_positive(kind(op), "k_dim", op.k_dim);
  require_positive(kind(op), "v_dim", op.v_dim);
}

}  // namespace

std::int64_t state_bytes(const LinearAttention& op) { return op.heads * op.k_dim * op.v_dim * kStateElement; }
std::int64_t state_bytes(const StateScan& op) { return op.heads * op.k_dim * op.v_dim * kStateElement; }
std::int64_t map_bytes(std::int64_t heads, std::int64_t k_dim, std::int64_t v_dim) {
  return heads * k_dim * (k_dim + v_dim) * kStateElement;
}
std::int64_t state_bytes(const LinearDecode& op) { return op.heads * op.k_dim * op.v_dim * kStateElement; }
std::int64_t state_bytes(const CausalConv1d& op) {
  return op.convs * op.channels * (op.taps - 1) * bytes_of(op.dtype);
}
std::int64_t state_traffic_bytes(const LinearAttention& op) {
  return all_states(op) * (op.initial_state ? 2 : 1);
}
std::int64_t state_traffic_bytes(const LinearDecode& op) {
  return all_states(op) * (op.form == DecodeForm::verify ? 1 + op.tokens : 2);
}

std::string_view kind(const LinearAttention& op) { return op.rule.prefill_kind; }
std::string_view kind(const StateScan&) { return "state_scan"; }
std::string_view kind(const LinearDecode& op) { return op.rule.decode_kind; }
std::string_view kind(const CausalConv1d&) { return "causal_conv1d"; }

// Per token and head, with d_k d_v = d^2 and half of each triangle counted: W S, q S and k^T D over the
// state, and in the chunk q k^T, its product with D, with the delta rule also k k^T, U, W and the inverse.
// For d_k = d_v and the delta rule this is 6 d^2 + 5 C d + C^2 / 3: eq. 13 of arXiv 2510.26692 has 3 C d +
// C^2.
double flops(const LinearAttention& op) {
  const auto k = static_cast<double>(op.k_dim), v = static_cast<double>(op.v_dim),
             c = static_cast<double>(op.chunk);
  const double each = op.rule.delta ? 2 : 1;  // products of the state pass, per column of the state
  const double prepared = c * k + (op.rule.delta ? c * (2 * k + v) + c * c / 3 : 0);
  const double from_state = 2 * (each + 1) * k * v + c * v;
  const double per_token = op.part == SegmentPart::map    ? prepared + 2 * each * k * (k + v)
                           : op.part == SegmentPart::rest ? from_state
                                                          : prepared + from_state;
  return product({op.tokens(), op.heads}) * per_token;
}
// A product with P and a sum with Q for every map but the first, which a zero state leaves Q of.
double flops(const StateScan& op) {
  const auto k = static_cast<double>(op.k_dim);
  const auto products = static_cast<double>(op.initial_state ? op.maps : op.maps - 1);
  return product({op.batch, op.heads, op.k_dim, op.v_dim}) * products * (2 * k + 1);
}
// Decay, rank-one update and read-out of the state; with the delta rule also S^T k.
double flops(const LinearDecode& op) {
  const int per_value = (op.rule.decay == Decay::none ? 0 : 1) + (op.rule.delta ? 6 : 4);
  return per_value * product({op.batch, op.tokens, op.heads, op.k_dim, op.v_dim});
}
// A product and a sum per tap; SiLU: negate, exp, add, reciprocal, product.
double flops(const CausalConv1d& op) {
  return static_cast<double>(2 * op.taps + 5) * product({op.batch, op.seq, op.convs, op.channels});
}

std::vector<Operand> operands(const LinearAttention& op) {
  std::vector<Operand> o;
  if (op.part != SegmentPart::rest) o = inputs(op, op.tokens());
  if (op.part == SegmentPart::map) {
    o.push_back({"map", op.batch * map_bytes(op.heads, op.k_dim, op.v_dim), true});
    return o;
  }
  std::int32_t state = -1;
  if (op.initial_state) {
    state = static_cast<std::int32_t>(o.size());
    o.push_back({"state", all_states(op), false});
  }
  o.push_back({"out", op.tokens() * op.heads * op.v_dim * bytes_of(op.dtype), true});
  o.push_back({"state_out", all_states(op), true, state});
  return o;
}

std::vector<Operand> operands(const StateScan& op) {
  std::vector<Operand> o{{"maps", op.batch * op.maps * map_bytes(op.heads, op.k_dim, op.v_dim), false}};
  if (op.initial_state) o.push_back({"state", all_states(op), false});
  o.push_back({"state_out", all_states(op), true, op.initial_state ? 1 : -1});
  return o;
}

std::vector<Operand> operands(const LinearDecode& op) {
  const std::int64_t tokens = op.batch * op.tokens, element = bytes_of(op.dtype),
                     out = tokens * op.heads * op.v_dim * element;
  std::vector<Operand> o = inputs(op, tokens);
  const auto state = static_cast<std::int32_t>(o.size());
  o.push_back({"state", all_states(op), false});
  if (op.form == DecodeForm::fused) {
    // The convolution's weights (fp32) and inputs kept, and the gate of the norm, q, k, v being its raw
    // inputs.
    const CausalConv1d conv{.channels = op.heads * op.k_dim, .dtype = op.dtype};
    o.push_back({"conv_weights", conv.convs * conv.channels * conv.taps * kStateElement, false});
    o.push_back({"conv_state", op.batch * state_bytes(conv), false});
    o.push_back({"gate", out, false});
    o.push_back({"conv_state_out", op.batch * state_bytes(conv), true, state + 2});
  }
  o.push_back({"out", out, true});
  if (op.form == DecodeForm::verify)
    o.push_back({"states", op.tokens * all_states(op), true});
  else
    o.push_back({"state_out", all_states(op), true, state});
  return o;
}

std::vector<Operand> operands(const CausalConv1d& op) {
  const std::int64_t element = bytes_of(op.dtype), all = op.convs * op.channels,
                     x = op.batch * op.seq * all * element, states = op.batch * state_bytes(op);
  std::vector<Operand> o{{"x", x, false}, {"weight", all * op.taps * element, false}};
  if (op.update) o.push_back({"state", states, false});
  o.push_back({"out", x, true});
  o.push_back({"state_out", states, true, op.update ? 2 : -1});
  return o;
}

namespace {

std::string lengths_text(const LinearAttention& op) {
  std::string text;
  for (const std::int64_t length : op.lengths) text += fmt::format("{}{}", text.empty() ? "=" : "+", length);
  return text;
}

}  // namespace

std::string signature(const LinearAttention& op) {
  const char* part = op.part == SegmentPart::map ? " map" : op.part == SegmentPart::rest ? " rest" : "";
  return fmt::format("{} b{} t{}{} h{} {}x{} c{}{}{}{} {}", kind(op), op.batch, op.seq, lengths_text(op),
                     op.heads, op.k_dim, op.v_dim, op.chunk, op.initial_state ? "" : " from zero", part,
                     op.kernels == ChunkKernels::flash_kda ? " flash_kda" : "", name_of(op.dtype));
}
std::string signature(const StateScan& op) {
  return fmt::format("state_scan b{} h{} {}x{} maps {}{}", op.batch, op.heads, op.k_dim, op.v_dim, op.maps,
                     op.initial_state ? "" : " from zero");
}
std::string signature(const LinearDecode& op) {
  const char* form = op.form == DecodeForm::packed ? "" : op.form == DecodeForm::fused ? " fused" : " verify";
  return fmt::format("{} b{} t{} h{} {}x{}{} {}", kind(op), op.batch, op.tokens, op.heads, op.k_dim, op.v_dim,
                     form, name_of(op.dtype));
}
std::string signature(const CausalConv1d& op) {
  return fmt::format("causal_conv1d b{} t{} {}x{} w{}{} {}", op.batch, op.seq, op.convs, op.channels, op.taps,
                     op.update ? " update" : "", name_of(op.dtype));
}

void require_possible(const LinearAttention& op) {
  require_dims(op);
  require_positive(kind(op), "seq", op.seq);
  require_positive(kind(op), "chunk", op.chunk);
  if (op.lengths.empty()) return;
  if (static_cast<std::int64_t>(op.lengths.size()) != op.batch ||
      *std::max_element(op.lengths.begin(), op.lengths.end()) != op.seq)
    throw std::invalid_argument{fmt::format(
        "{}: lengths must be one for each of {} sequences, the longest {}", kind(op), op.batch, op.seq)};
  for (const std::int64_t length : op.lengths) require_positive(kind(op), "lengths", length);
}
void require_possible(const StateScan& op) {
  require_dims(op);
  require_positive(kind(op), "maps", op.maps);
}
void require_possible(const LinearDecode& op) {
  require_dims(op);
  require_positive(kind(op), "tokens", op.tokens);
  if (op.tokens > 1 && op.form != DecodeForm::verify)
    throw std::invalid_argument{
        fmt::format("{}: tokens must be 1, not {}, unless form is verify", kind(op), op.tokens)};
}
void require_possible(const CausalConv1d& op) {
  require_positive(kind(op), "batch", op.batch);
  require_positive(kind(op), "seq", op.seq);
  require_positive(kind(op), "channels", op.channels);
  require_positive(kind(op), "convs", op.convs);
  if (op.taps < 2)
    throw std::invalid_argument{fmt::format("{}: taps must be at least 2, not {}", kind(op), op.taps)};
}

}  // namespace tessera::models
