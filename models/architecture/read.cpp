#include <fmt/format.h>

#include <algorithm>

#include "configs/reader/document.hpp"
#include "models/architecture/architecture.hpp"

namespace tessera::models {

namespace {

using config::Value;

constexpr std::int64_t kMost = std::int64_t{1} << 24;  // of any dimension: products stay within 64 bits
constexpr std::int64_t kMostLayers = 4096;
// What FlashAttention's kernels take.
constexpr std::int64_t kHeadDimStep = 8, kMostHeadDim = 256;

std::int64_t positive(const Value& map, std::string_view key) { return map.at(key).as_integer(1, kMost); }
std::int64_t positive_or(const Value& map, std::string_view key, std::int64_t otherwise) {
  const auto value = map.find(key);
  return value ? value->as_integer(1, kMost) : otherwise;
}
bool flag_or(const Value& map, std::string_view key, bool otherwise) {
  const auto value = map.find(key);
  return value ? value->as_bool() : otherwise;
}

void read_shape(const Value& map, Architecture& a, std::string_view heads_key,
                std::string_view kv_heads_key) {
  a.heads = positive(map, heads_key);
  a.kv_heads = positive_or(map, kv_heads_key, a.heads);
  if (a.heads % a.kv_heads != 0) {
    throw map.at(kv_heads_key)
        .error(fmt::format("{} heads cannot share {} kv heads evenly", a.heads, a.kv_heads));
  }
  if (const auto head_dim = map.find("head_dim")) {
    a.head_dim = head_dim->as_integer(1, kMost);
  } else {
    if (a.hidden % a.heads != 0) {
      throw map.at(heads_key).error(
          fmt::format("hidden size {} is no multiple of {} heads", a.hidden, a.heads));
    }
    a.head_dim = a.hidden / a.heads;
  }
  if (a.head_dim % kHeadDimStep != 0 || a.head_dim > kMostHeadDim) {
    const auto head_dim = map.find("head_dim");
    throw(head_dim ? *head_dim : map.at(heads_key))
        .error(fmt::format("attention kernels take head dimensions that are multiples of {} up to {}, not {}",
                           kHeadDimStep, kMostHeadDim, a.head_dim));
  }
}

Dtype read_dtype(const Value& map, std::string_view key) {
  const auto value = map.find(key);
  if (!value) return Dtype::bf16;
  const std::string name = value->as_one_of({"bfloat16", "float16", "float32", "bf16", "fp16", "fp32"});
  // fp32 checkpoints (BERT) are served in bf16.
  return name == "float16" || name == "fp16" ? Dtype::fp16 : Dtype::bf16;
}

Architecture read_hugging_face(const Value& root, const std::string& name) {
  Architecture a;
  a.name = name;
  a.family = root.at("model_type").as_one_of({"llama", "mistral", "qwen2", "qwen3", "bert"});
  a.layers = root.at("num_hidden_layers").as_integer(1, kMostLayers);
  a.hidden = positive(root, "hidden_size");
  read_shape(root, a, "num_attention_heads", "num_key_value_heads");
  a.intermediate = positive(root, "intermediate_size");
  a.vocab = positive(root, "vocab_size");
  a.max_positions = positive(root, "max_position_embeddings");
  a.dtype = read_dtype(root, "torch_dtype");
  if (a.family == "bert") {
    root.at("hidden_act").as_one_of({"gelu", "gelu_new", "gelu_pytorch_tanh"});
    a.norm = NormKind::layer;
    a.post_norm = true;
    a.gated_mlp = false;
    a.causal = false;
    a.rope = false;
    a.qkv_bias = a.output_bias = a.mlp_bias = true;
    a.learned_positions = true;
    a.token_types = positive_or(root, "type_vocab_size", 2);
    a.pooler = true;
    a.language_head = false;
    return a;
  }
  root.at("hidden_act").as_one_of({"silu"});
  a.rope_theta = root.find("rope_theta") ? root.at("rope_theta").as_number(1, 1e12) : 10000;
  a.tied_embeddings = flag_or(root, "tie_word_embeddings", false);
  a.qkv_bias = flag_or(root, "attention_bias", a.family == "qwen2");
  a.output_bias = a.family == "llama" && flag_or(root, "attention_bias", false);
  a.mlp_bias = flag_or(root, "mlp_bias", false);
  a.qk_norm = a.family == "qwen3";
  return a;
}

Architecture read_own(const Value& root) {
  root.allow_only({"name", "family", "layers", "hidden", "heads", "kv_heads", "head_dim", "intermediate",
                   "vocab", "max_positions", "norm", "post_norm", "mlp", "causal", "rope_theta",
                   "tied_embeddings", "qkv_bias", "dtype", "description"});
  Architecture a;
  a.name = root.at("name").as_string();
  a.family = root.find("family") ? root.at("family").as_string() : "custom";
  a.layers = root.at("layers").as_integer(1, kMostLayers);
  a.hidden = positive(root, "hidden");
  read_shape(root, a, "heads", "kv_heads");
  a.intermediate = positive(root, "intermediate");
  a.vocab = positive(root, "vocab");
  a.max_positions = positive_or(root, "max_positions", std::int64_t{1} << 20);
  if (root.find("norm"))
    a.norm = root.at("norm").as_one_of({"rms", "layer"}) == "rms" ? NormKind::rms : NormKind::layer;
  a.post_norm = flag_or(root, "post_norm", false);
  if (root.find("mlp")) a.gated_mlp = root.at("mlp").as_one_of({"swiglu", "gelu"}) == "swiglu";
  a.causal = flag_or(root, "causal", true);
  a.language_head = a.causal;
  a.rope = root.find("rope_theta").has_value();
  if (a.rope) a.rope_theta = root.at("rope_theta").as_number(1, 1e12);
  a.tied_embeddings = flag_or(root, "tied_embeddings", false);
  a.qkv_bias = flag_or(root, "qkv_bias", false);
  a.dtype = read_dtype(root, "dtype");
  return a;
}

}  // namespace

Architecture read_architecture(const std::filesystem::path& file) {
  return read_architecture(config::Document::read(file));
}

Architecture read_architecture(const config::Document& document) {
  const Value root = document.root();
  if (root.is_map() && root.find("model_type")) {
    // A config.json does not name itself; its folder does.
    const std::string folder = root.file().parent_path().filename().string();
    return read_hugging_face(root, folder.empty() ? root.file().stem().string() : folder);
  }
  return read_own(root);
}

}  // namespace tessera::models
