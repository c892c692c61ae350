#include "models/architecture/fields.hpp"

#include <fmt/format.h>

namespace tessera::models::fields {

using config::Value;

namespace {

// What FlashAttention's kernels take.
constexpr std::int64_t kHeadDimStep = 8, kMostDenseHeadDim = 256;

}  // namespace

std::int64_t positive_or(const Value& map, std::string_view key, std::int64_t most, std::int64_t otherwise) {
  const auto value = map.find(key);
  return value ? value->as_integer(1, most) : otherwise;
}

bool flag_or(const Value& map, std::string_view key, bool otherwise) {
  const auto value = map.find(key);
  return value ? value->as_bool() : otherwise;
}

Dtype read_dtype(const Value& map, std::string_view key) {
  const auto value = map.find(key);
  if (!value) return Dtype::bf16;
  const std::string name = value->as_one_of({"bfloat16", "float16", "float32", "bf16", "fp16", "fp32"});
  return name == "float16" || name == "fp16" ? Dtype::fp16 : Dtype::bf16;
}

DenseShape read_dense(const Value& map, std::int64_t hidden, std::string_view heads_key,
                      std::string_view kv_heads_key) {
  DenseShape d;
  d.heads = map.at(heads_key).as_integer(1, kMostHeads);
  d.kv_heads = positive_or(map, kv_heads_key, kMostHeads, d.heads);
  if (d.heads % d.kv_heads != 0) {
    throw map.at(kv_heads_key)
        .error(fmt::format("{} heads cannot share {} kv heads evenly", d.heads, d.kv_heads));
  }
  const auto head_dim = map.find("head_dim");
  if (!head_dim && hidden % d.heads != 0) {
    throw map.at(heads_key).error(fmt::format("hidden size {} is no multiple of {} heads", hidden, d.heads));
  }
  d.head_dim = head_dim ? head_dim->as_integer(1, kMostHeadDim) : hidden / d.heads;
  if (d.head_dim % kHeadDimStep != 0 || d.head_dim > kMostDenseHeadDim) {
    throw(head_dim ? *head_dim : map.at(heads_key))
        .error(fmt::format("attention kernels take head dimensions that are multiples of {} up to {}, not {}",
                           kHeadDimStep, kMostDenseHeadDim, d.head_dim));
  }
  return d;
}

}  // namespace tessera::models::fields
