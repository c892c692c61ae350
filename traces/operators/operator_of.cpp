#include <algorithm>
#include <array>
#include <string_view>

#include "traces/input/json_pull.hpp"
#include "traces/operators/operator_trace.hpp"

namespace tessera::traces {

namespace {

using Dims = std::vector<std::int64_t>;

std::int64_t product(const Dims& dims, std::size_t first, std::size_t last) {
  std::int64_t n = 1;
  for (std::size_t i = first; i < last; ++i) n *= dims[i];
  return n;
}

std::optional<models::Dtype> dtype_of(const OperatorCall& c, std::size_t argument) {
  if (c.types.size() <= argument) return std::nullopt;
  constexpr std::array<std::pair<std::string_view, models::Dtype>, 8> known{
      {{"c10::BFloat16", models::Dtype::bf16},
       {"BFloat16", models::Dtype::bf16},
       {"c10::Half", models::Dtype::fp16},
       {"Half", models::Dtype::fp16},
       {"float", models::Dtype::fp32},
       {"c10::Float8_e4m3fn", models::Dtype::fp8},
       {"Tensor(c10::BFloat16)", models::Dtype::bf16},
       {"Tensor(c10::Half)", models::Dtype::fp16}}};
  for (const auto& [name, dtype] : known) {
    if (c.types[argument] == name) return dtype;
  }
  return std::nullopt;
}

/// The call's argument as a tensor of so many dimensions (0: any but none), none of them empty or absurd.
const Dims* tensor(const OperatorCall& c, std::size_t argument, std::size_t rank) {
  if (c.dims.size() <= argument) return nullptr;
  const Dims& d = c.dims[argument];
  if (d.empty() || (rank != 0 && d.size() != rank)) return nullptr;
  std::int64_t left = std::int64_t{1} << 44;
  for (const std::int64_t n : d) {
    if (n < 1 || n > left) return nullptr;
    left /= n;
  }
  return &d;
}

/// x [..., k] times a matrix: rows of x.
std::optional<models::Operator> gemm(const OperatorCall& c, std::size_t x_at, std::size_t w_at,
                                     bool output_major) {
  const Dims* x = tensor(c, x_at, 0);
  const Dims* w = tensor(c, w_at, 2);
  const auto dtype = dtype_of(c, x_at);
  if (x == nullptr || w == nullptr || !dtype) return std::nullopt;
  const std::int64_t k = x->back(), n = (*w)[output_major ? 0 : 1];
  if ((*w)[output_major ? 1 : 0] != k) return std::nullopt;
  return models::Gemm{product(*x, 0, x->size() - 1), n, k, *dtype};
}

std::optional<models::Operator> batched(const OperatorCall& c) {
  const Dims* a = tensor(c, 0, 3);
  const Dims* b = tensor(c, 1, 3);
  const auto dtype = dtype_of(c, 0);
  if (a == nullptr || b == nullptr || !dtype || (*a)[0] != (*b)[0] || (*a)[2] != (*b)[1]) return std::nullopt;
  return models::BatchedGemm{(*a)[0], (*a)[1], (*b)[2], (*a)[2], *dtype};
}

/// `heads_first`: [batch, heads, rows, dim], as scaled_dot_product_attention; else [batch, rows, heads, dim].
std::optional<models::Operator> attention(const OperatorCall& c, bool heads_first, std::size_t causal_at) {
  const Dims* q = tensor(c, 0, 4);
  const Dims* k = tensor(c, 1, 4);
  const auto dtype = dtype_of(c, 0);
  if (q == nullptr || k == nullptr || !dtype || c.values.size() <= causal_at) return std::nullopt;
  std::string causal = c.values[causal_at];
  std::transform(causal.begin(), causal.end(), causal.begin(),
                 [](char ch) { return ch >= 'A' && ch <= 'Z' ? static_cast<char>(ch + 32) : ch; });
  if (causal != "true" && causal != "false") return std::nullopt;
  const std::size_t rows = heads_first ? 2 : 1, heads = heads_first ? 1 : 2;
  const bool is_causal = causal == "true";
  if (is_causal && (*q)[rows] > (*k)[rows]) return std::nullopt;
  if ((*q)[rows] == 1) {
    return models::AttentionDecode{.batch = (*q)[0],
                                   .context = (*k)[rows],
                                   .heads = (*q)[heads],
                                   .kv_heads = (*k)[heads],
                                   .head_dim = (*q)[3],
                                   .dtype = *dtype};
  }
  return models::Attention{.batch = (*q)[0],
                           .q_rows = (*q)[rows],
                           .kv_rows = (*k)[rows],
                           .heads = (*q)[heads],
                           .kv_heads = (*k)[heads],
                           .head_dim = (*q)[3],
                           .causal = is_causal,
                           .dtype = *dtype};
}

std::optional<models::Operator> norm(const OperatorCall& c, models::NormKind kind) {
  const Dims* x = tensor(c, 0, 0);
  const auto dtype = dtype_of(c, 0);
  if (x == nullptr || !dtype) return std::nullopt;
  return models::Norm{product(*x, 0, x->size() - 1), x->back(), kind, false, *dtype};
}

std::optional<models::Operator> known(const OperatorCall& c) {
  const std::string_view n = c.name;
  if (n == "aten::mm" || n == "aten::matmul") return gemm(c, 0, 1, false);
  if (n == "aten::addmm") return gemm(c, 1, 2, false);
  if (n == "aten::linear") return gemm(c, 0, 1, true);
  if (n == "aten::bmm") return batched(c);
  if (n == "aten::_scaled_dot_product_flash_attention") return attention(c, true, 4);
  if (n == "aten::_scaled_dot_product_cudnn_attention") return attention(c, true, 6);
  if (n == "flash_attn::_flash_attn_forward") return attention(c, false, 5);
  if (n == "aten::rms_norm" || n == "aten::_fused_rms_norm") return norm(c, models::NormKind::rms);
  if (n == "aten::native_layer_norm" || n == "aten::layer_norm") return norm(c, models::NormKind::layer);
  if (n == "aten::_softmax") {
    const Dims* x = tensor(c, 0, 0);
    const auto dtype = dtype_of(c, 0);
    if (x == nullptr || !dtype) return std::nullopt;
    return models::Softmax{product(*x, 0, x->size() - 1), x->back(), *dtype};
  }
  if (n == "aten::embedding") {
    const Dims* table = tensor(c, 0, 2);
    const Dims* rows = tensor(c, 1, 0);
    const auto dtype = dtype_of(c, 0);
    if (table == nullptr || rows == nullptr || !dtype) return std::nullopt;
    return models::Embedding{product(*rows, 0, rows->size()), (*table)[1], *dtype};
  }
  if (n == "aten::copy_") {
    const Dims* x = tensor(c, 0, 0);
    const auto dtype = dtype_of(c, 0);
    if (x == nullptr || !dtype || c.types.size() < 2 || c.types[0] != c.types[1]) return std::nullopt;
    return models::Copy{product(*x, 0, x->size()) * models::bytes_of(*dtype)};
  }
  return std::nullopt;
}

}  // namespace

std::optional<models::Operator> operator_of(const OperatorCall& call) {
  std::optional<models::Operator> op = known(call);
  if (!op) return op;
  try {
    models::check(*op);
  } catch (const std::invalid_argument&) {  // say, heads that its key heads do not divide
    return std::nullopt;
  }
  return op;
}

std::optional<std::vector<Dims>> parse_dims(const std::string& text) {
  try {
    JsonPull json;
    json.reset(text);
    if (json.next() != JsonToken::begin_array) return std::nullopt;
    std::vector<Dims> dims;
    for (;;) {
      const JsonToken token = json.next();
      if (token == JsonToken::end_array) break;
      Dims& d = dims.emplace_back();
      if (token != JsonToken::begin_array) {
        if (token == JsonToken::begin_object) return std::nullopt;
        continue;
      }
      bool deep = false;
      for (JsonToken in = json.next(); in != JsonToken::end_array; in = json.next()) {
        if (in == JsonToken::number) {
          d.push_back(json.integer());
        } else {
          json.finish_value(in);
          deep = true;
        }
      }
      if (deep) d.clear();  // a list of tensors
    }
    return dims;
  } catch (const JsonError&) {
    return std::nullopt;
  }
}

}  // namespace tessera::traces
