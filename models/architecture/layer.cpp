#include "models/architecture/layer.hpp"

#include "models/architecture/overloaded.hpp"

namespace tessera::models {

namespace {

constexpr std::int64_t kFp32 = 4;

std::int64_t expert_parameters(const MoeShape& m, std::int64_t hidden) { return 3 * hidden * m.width; }
std::int64_t router_parameters(const MoeShape& m, std::int64_t hidden) {
  return m.experts * hidden + (m.score_bias ? m.experts : 0);
}

std::int64_t dense_parameters(const DenseShape& d, std::int64_t hidden) {
  const std::int64_t q = d.q_width(), kv = d.kv_width();
  return hidden * (q + 2 * kv) + q * hidden + (d.qkv_bias ? q + 2 * kv : 0) + (d.output_bias ? hidden : 0) +
         (d.qk_norm ? 2 * d.head_dim : 0);
}

}  // namespace

std::string_view name_of(const AttentionShape& attention) {
  return std::visit(
      Overloaded{
          [](const DenseShape& d) -> std::string_view { return d.window > 0 ? "sliding window" : "dense"; },
          [](const MobaShape&) -> std::string_view { return "MoBA"; },
          [](const MlaShape& m) -> std::string_view { return m.rotated ? "MLA" : "MLA (NoPE)"; },
          [](const KdaShape&) -> std::string_view { return "KDA"; }},
      attention);
}

std::string_view name_of(const FeedForwardShape& feed_forward) {
  return std::holds_alternative<MlpShape>(feed_forward) ? "MLP" : "MoE";
}

std::int64_t parameters_of(const AttentionShape& attention, std::int64_t hidden) {
  return std::visit(
      Overloaded{[&](const DenseShape& d) { return dense_parameters(d, hidden); },
                 [&](const MobaShape& m) { return dense_parameters(m.dense, hidden); },
                 [&](const MlaShape& m) {
                   const std::int64_t q_width = m.heads * m.qk_dim();
                   // Each low-rank projection has a norm between its two matrices.
                   const std::int64_t q =
                       m.q_lora > 0 ? hidden * m.q_lora + m.q_lora + m.q_lora * q_width : hidden * q_width;
                   const std::int64_t kv =
                       hidden * m.latent_width() + m.kv_lora + m.kv_lora * m.heads * (m.nope + m.v_dim);
                   return q + kv + m.heads * m.v_dim * hidden;
                 },
                 [&](const KdaShape& k) {
                   const std::int64_t projections = hidden * (2 * k.k_width() + k.v_width());
                   const std::int64_t convolutions = k.taps * (2 * k.k_width() + k.v_width());
                   // A_log per head and dt_bias per channel belong to the decay.
                   const std::int64_t decay = (hidden + k.k_width()) * k.decay_rank + k.heads + k.k_width();
                   const std::int64_t beta = hidden * k.heads;
                   const std::int64_t gate = (hidden + k.v_width()) * k.gate_rank;
                   const std::int64_t norm = k.v_dim;
                   return projections + convolutions + decay + beta + gate + norm + k.v_width() * hidden;
                 }},
      attention);
}

std::int64_t parameters_of(const FeedForwardShape& feed_forward, std::int64_t hidden) {
  return std::visit(Overloaded{[&](const MlpShape& m) {
                                 const std::int64_t up = m.gated ? 2 : 1;
                                 return (up + 1) * hidden * m.width + (m.bias ? up * m.width + hidden : 0);
                               },
                               [&](const MoeShape& m) {
                                 return router_parameters(m, hidden) +
                                        (m.experts + m.shared) * expert_parameters(m, hidden);
                               }},
                    feed_forward);
}

std::int64_t active_parameters_of(const FeedForwardShape& feed_forward, std::int64_t hidden) {
  const std::int64_t all = parameters_of(feed_forward, hidden);
  const auto* moe = std::get_if<MoeShape>(&feed_forward);
  return moe == nullptr ? all : all - (moe->experts - moe->topk) * expert_parameters(*moe, hidden);
}

std::int64_t kv_bytes_per_token(const AttentionShape& attention, Dtype dtype) {
  const std::int64_t e = bytes_of(dtype);
  return std::visit(Overloaded{[&](const DenseShape& d) { return 2 * d.kv_width() * e; },
                               [&](const MobaShape& m) { return 2 * m.dense.kv_width() * e; },
                               [&](const MlaShape& m) { return m.latent_width() * e; },
                               [](const KdaShape&) { return std::int64_t{0}; }},
                    attention);
}

std::int64_t state_bytes_per_sequence(const AttentionShape& attention, Dtype dtype) {
  const auto* kda = std::get_if<KdaShape>(&attention);
  if (kda == nullptr) return 0;
  const std::int64_t past_inputs = (kda->taps - 1) * (2 * kda->k_width() + kda->v_width());
  return kda->heads * kda->k_dim * kda->v_dim * kFp32 + past_inputs * bytes_of(dtype);
}

}  // namespace tessera::models
