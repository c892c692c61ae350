#include "validate/shapes.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace tessera::validate {

namespace {

using Arguments = std::vector<std::pair<std::string, std::string>>;

/// A row of `kind`; the dtype is an argument unless it is the default.
Measurement row_of(std::string kind, const std::vector<std::pair<std::string, std::int64_t>>& shape,
                   models::Operator op, models::Dtype dtype, Arguments more = {}) {
  Measurement row;
  row.kind = std::move(kind);
  for (const auto& [key, value] : shape) row.arguments.emplace_back(key, std::to_string(value));
  row.arguments.insert(row.arguments.end(), more.begin(), more.end());
  if (dtype != models::Dtype::bf16) row.arguments.emplace_back("dtype", std::string{name_of(dtype)});
  row.op = std::move(op);
  return row;
}

}  // namespace

Measurement gemm_row(std::int64_t m, std::int64_t n, std::int64_t k, models::Dtype dtype) {
  return row_of("gemm", {{"m", m}, {"n", n}, {"k", k}}, models::Gemm{.m = m, .n = n, .k = k, .dtype = dtype},
                dtype);
}

Measurement prefill_row(const AttentionShape& s, std::int64_t chunk, std::int64_t past, int flash_version,
                        models::Dtype dtype) {
  std::vector<std::pair<std::string, std::int64_t>> shape{{"batch", s.batch}};
  if (past == 0) {
    shape.emplace_back("seq", chunk);
  } else {
    shape.emplace_back("q_rows", chunk);
    shape.emplace_back("kv_rows", past + chunk);
  }
  shape.insert(shape.end(), {{"heads", s.heads}, {"kv_heads", s.kv_heads}, {"head_dim", s.head_dim}});
  return row_of("attention_prefill", shape,
                models::Attention{.batch = s.batch,
                                  .q_rows = chunk,
                                  .kv_rows = past + chunk,
                                  .heads = s.heads,
                                  .kv_heads = s.kv_heads,
                                  .head_dim = s.head_dim,
                                  .causal = true,
                                  .dtype = dtype,
                                  .flash_version = flash_version},
                dtype, flash_version == 3 ? Arguments{} : Arguments{{"algorithm", "fa2"}});
}

Measurement decode_row(const AttentionShape& s, std::int64_t context, models::Dtype dtype) {
  return row_of("attention_decode",
                {{"batch", s.batch},
                 {"context", context},
                 {"heads", s.heads},
                 {"kv_heads", s.kv_heads},
                 {"head_dim", s.head_dim}},
                models::AttentionDecode{.batch = s.batch,
                                        .context = context,
                                        .heads = s.heads,
                                        .kv_heads = s.kv_heads,
                                        .head_dim = s.head_dim,
                                        .dtype = dtype},
                dtype);
}

Measurement through_paged_cache(Measurement attention) {
  if (auto* prefill = std::get_if<models::Attention>(&attention.op)) prefill->paged = true;
  if (auto* decode = std::get_if<models::AttentionDecode>(&attention.op)) decode->paged = true;
  attention.arguments.emplace_back("kv_cache", "paged");
  return attention;
}

Measurement latent_prefill_row(std::int64_t batch, std::int64_t seq, std::int64_t heads,
                               models::Dtype dtype) {
  return row_of(
      "mla_prefill", {{"batch", batch}, {"seq", seq}, {"heads", heads}},
      models::LatentDecode{
          .batch = batch, .context = seq, .heads = heads, .q_rows = seq, .dtype = dtype, .paged = true},
      dtype, {{"form", "absorbed"}, {"kv_cache", "paged"}});
}

Measurement latent_decode_row(std::int64_t batch, std::int64_t context, std::int64_t heads,
                              models::Dtype dtype) {
  return row_of(
      "mla_decode", {{"batch", batch}, {"context", context}, {"heads", heads}},
      models::LatentDecode{.batch = batch, .context = context, .heads = heads, .dtype = dtype, .paged = true},
      dtype, {{"kv_cache", "paged"}});
}

Measurement rope_row(std::int64_t rows, const AttentionShape& s, models::Dtype dtype) {
  return row_of(
      "rope", {{"rows", rows}, {"heads", s.heads}, {"kv_heads", s.kv_heads}, {"head_dim", s.head_dim}},
      models::Rope{
          .rows = rows, .heads = s.heads, .kv_heads = s.kv_heads, .head_dim = s.head_dim, .dtype = dtype},
      dtype);
}

Measurement activation_row(std::int64_t rows, std::int64_t width, models::ActivationKind kind,
                           models::Dtype dtype) {
  return row_of("activation", {{"rows", rows}, {"width", width}},
                models::Activation{.rows = rows, .width = width, .kind = kind, .dtype = dtype}, dtype,
                {{"type", kind == models::ActivationKind::swiglu ? "swiglu" : "gelu"}});
}

void require_possible(const Measurement& row,
                      const std::function<config::InputError(const std::string&)>& error) {
  // Bounds the bytes of every operand, and the pairs of an attention. A mixture's experts, nodes and choices
  // do not multiply: its activations and its weights bound it.
  const auto* moe = std::get_if<models::Moe>(&row.op);
  double product = moe == nullptr ? 1
                                  : models::product({moe->tokens, moe->topk, moe->hidden, 12}) +
                                        models::product({moe->experts, moe->hidden, moe->intermediate, 12});
  if (moe == nullptr)
    for (const auto& [key, value] : row.arguments) {
      if (value.empty() || value[0] < '0' || value[0] > '9') continue;
      std::size_t digits = 0;
      product *= std::max(std::stod(value, &digits), 1.0);
      const char unit = digits < value.size() ? value[digits] : ' ';  // 4Ki
      product *= std::ldexp(1, unit == 'K' ? 10 : unit == 'M' ? 20 : unit == 'G' ? 30 : 0);
    }
  if (product > std::ldexp(1, 58)) throw error("the shape is too large: " + shape_text(row));
  try {
    models::check(row.op);
  } catch (const std::invalid_argument& e) {
    throw error(e.what());
  }
}

}  // namespace tessera::validate
