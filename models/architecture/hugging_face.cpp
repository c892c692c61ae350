// config.json of Hugging Face's transformers. Which fields mean what follows the configuration and modelling
// classes of that library (and, for kimi_linear, those published with the checkpoint); docs/models.md lists
// them. A key that is null or absent takes the library's default where it has a neutral one.

#include <fmt/format.h>

#include <array>

#include "models/architecture/fields.hpp"

namespace tessera::models {

namespace {

using config::Value;
using namespace fields;

/// What every family has in common.
Architecture read_common(const Value& root, const std::string& name, std::string_view positions_key) {
  Architecture a;
  a.name = name;
  a.family = root.at("model_type").as_string();
  a.layers.resize(static_cast<std::size_t>(root.at("num_hidden_layers").as_integer(1, kMostLayers)));
  a.hidden = root.at("hidden_size").as_integer(1, kMostHidden);
  a.vocab = root.at("vocab_size").as_integer(1, kMostTokens);
  a.max_positions = root.at(positions_key).as_integer(1, kMostTokens);
  a.dtype = read_dtype(root, root.find("torch_dtype") ? "torch_dtype" : "dtype");
  return a;
}

/// What decoders have in common.
Architecture read_decoder(const Value& root, const std::string& name,
                          std::string_view positions_key = "max_position_embeddings") {
  Architecture a = read_common(root, name, positions_key);
  root.at("hidden_act").as_one_of({"silu"});
  auto theta = root.find("rope_theta");
  if (const auto nested = root.find("rope_parameters"); nested && !theta)
    theta = nested->find("rope_theta");  // where newer versions of the library keep it
  if (theta) a.rope_theta = theta->as_number(1, 1e12);
  a.tied_embeddings = flag_or(root, "tie_word_embeddings", false);
  return a;
}

MlpShape read_mlp(const Value& root) {
  return {.width = root.at("intermediate_size").as_integer(1, kMostWidth),
          .bias = flag_or(root, "mlp_bias", false)};
}

/// Which layers have a sliding window, and how wide it is (0: none has).
struct Windows {
  std::int64_t width = 0;
  std::vector<bool> slides;  ///< per layer
};
Windows read_windows(const Value& root, const Architecture& a) {
  Windows windows{0, std::vector<bool>(a.layers.size(), true)};
  const auto width = root.find("sliding_window");
  if (!width || !flag_or(root, "use_sliding_window", a.family == "mistral")) return windows;
  windows.width = width->as_integer(1, kMostTokens);
  if (const auto types = root.find("layer_types")) {
    const std::vector<Value> items = types->items();
    if (items.size() < a.layers.size())
      throw types->error(fmt::format("{} entries for {} layers", items.size(), a.layers.size()));
    for (std::size_t l = 0; l < a.layers.size(); ++l)
      windows.slides[l] = items[l].as_one_of({"full_attention", "sliding_attention"}) == "sliding_attention";
  } else if (const auto full = root.find("max_window_layers")) {
    const std::int64_t first = full->as_integer(0, kMostLayers);
    for (std::size_t l = 0; l < a.layers.size(); ++l)
      windows.slides[l] = static_cast<std::int64_t>(l) >= first;
  }
  return windows;
}

/// The chosen experts' number and groups, once `experts` is known.
void read_choice(const Value& root, MoeShape& m, std::string_view topk_key, std::string_view groups_key) {
  m.topk = root.at(topk_key).as_integer(1);
  if (m.topk > m.experts)
    throw root.at(topk_key).error(fmt::format("{} of {} experts cannot be chosen", m.topk, m.experts));
  m.groups = positive_or(root, groups_key, kMostExperts, 1);
  if (m.experts % m.groups != 0) {
    throw root.at(groups_key)
        .error(fmt::format("{} experts do not divide into {} groups", m.experts, m.groups));
  }
  m.top_groups = positive_or(root, "topk_group", m.groups, m.groups);
  if (m.topk > m.experts / m.groups * m.top_groups) {
    throw root.at("topk_group")
        .error(fmt::format("{} experts cannot be chosen from {} groups of {}", m.topk, m.top_groups,
                           m.experts / m.groups));
  }
}

MoeShape::Score read_score(const Value& root, std::string_view key, std::string_view otherwise) {
  const auto value = root.find(key);
  const std::string name = value ? value->as_one_of({"softmax", "sigmoid"}) : std::string{otherwise};
  return name == "softmax" ? MoeShape::Score::softmax : MoeShape::Score::sigmoid;
}

double read_scale(const Value& root) {
  const auto value = root.find("routed_scaling_factor");
  return value ? value->as_number(1e-6, 1e6) : 1;
}

/// The layers from `first_k_dense_replace` on whose number is a multiple of `moe_layer_freq` have experts.
template <class ReadMoe>
void read_feed_forward(const Value& root, Architecture& a, bool has_experts, const ReadMoe& read_moe) {
  const auto value = root.find("first_k_dense_replace");
  const std::int64_t first = value ? value->as_integer(0, kMostLayers) : 0;
  const std::int64_t every = positive_or(root, "moe_layer_freq", kMostLayers, 1);
  for (std::int64_t l = 0; l < a.layer_count(); ++l) {
    FeedForwardShape& shape = a.layers[static_cast<std::size_t>(l)].feed_forward;
    if (has_experts && l >= first && l % every == 0)
      shape = read_moe();
    else
      shape = read_mlp(root);
  }
}

MlaShape read_mla(const Value& root) {
  MlaShape m;
  m.heads = root.at("num_attention_heads").as_integer(1, kMostHeads);
  if (const auto rank = root.find("q_lora_rank")) m.q_lora = rank->as_integer(1, kMostWidth);
  m.kv_lora = root.at("kv_lora_rank").as_integer(1, kMostWidth);
  m.nope = root.at("qk_nope_head_dim").as_integer(1, kMostHeadDim);
  m.rope = root.at("qk_rope_head_dim").as_integer(1, kMostHeadDim);
  m.v_dim = root.at("v_head_dim").as_integer(1, kMostHeadDim);
  if (flag_or(root, "attention_bias", false))
    throw root.at("attention_bias").error("latent attention with biases is not supported");
  return m;
}

// The families.

Architecture read_bert(const Value& root, const std::string& name) {
  Architecture a = read_common(root, name, "max_position_embeddings");
  root.at("hidden_act").as_one_of({"gelu", "gelu_new", "gelu_pytorch_tanh"});
  DenseShape dense = read_dense(root, a.hidden, "num_attention_heads", "num_key_value_heads");
  dense.rope = false;
  dense.qkv_bias = dense.output_bias = true;
  MlpShape mlp = read_mlp(root);
  mlp.gated = false;
  mlp.bias = true;
  for (Layer& l : a.layers) l = {dense, mlp};
  a.norm = NormKind::layer;
  a.post_norm = true;
  a.causal = false;
  a.learned_positions = true;
  a.token_types = positive_or(root, "type_vocab_size", kMostTokens, 2);
  a.pooler = true;
  a.language_head = false;
  return a;
}

Architecture read_dense_decoder(const Value& root, const std::string& name) {
  Architecture a = read_decoder(root, name);
  DenseShape dense = read_dense(root, a.hidden, "num_attention_heads", "num_key_value_heads");
  const bool bias = flag_or(root, "attention_bias", a.family == "qwen2");
  dense.qkv_bias = bias;
  dense.output_bias = bias && a.family != "qwen2" && a.family != "mistral";
  dense.qk_norm = a.family.starts_with("qwen3");
  const Windows windows = read_windows(root, a);
  for (std::size_t l = 0; l < a.layers.size(); ++l) {
    dense.window = windows.slides[l] ? windows.width : 0;
    a.layers[l].attention = dense;
  }
  return a;
}

Architecture read_dense_mlp_decoder(const Value& root, const std::string& name) {
  Architecture a = read_dense_decoder(root, name);
  const MlpShape mlp = read_mlp(root);
  for (Layer& l : a.layers) l.feed_forward = mlp;
  return a;
}

Architecture read_qwen3_moe(const Value& root, const std::string& name) {
  Architecture a = read_dense_decoder(root, name);
  MoeShape moe;
  moe.experts = root.at("num_experts").as_integer(1, kMostExperts);
  moe.width = root.at("moe_intermediate_size").as_integer(1, kMostWidth);
  moe.normalised = flag_or(root, "norm_topk_prob", false);
  read_choice(root, moe, "num_experts_per_tok", "n_group");
  const std::int64_t every = positive_or(root, "decoder_sparse_step", kMostLayers, 1);
  for (std::int64_t l = 0; l < a.layer_count(); ++l) {
    FeedForwardShape& shape = a.layers[static_cast<std::size_t>(l)].feed_forward;
    if ((l + 1) % every == 0)
      shape = moe;
    else
      shape = read_mlp(root);
  }
  if (const auto without = root.find("mlp_only_layers")) {
    for (const Value& layer : without->items()) {
      const std::int64_t l = layer.as_integer(0, kMostLayers);
      if (l < a.layer_count()) a.layers[static_cast<std::size_t>(l)].feed_forward = read_mlp(root);
    }
  }
  return a;
}

/// DeepSeek-V2 and -V3, and what says it is one (Moonlight).
Architecture read_deepseek(const Value& root, const std::string& name) {
  Architecture a = read_decoder(root, name);
  const bool v3 = a.family == "deepseek_v3";
  const MlaShape mla = read_mla(root);
  for (Layer& l : a.layers) l.attention = mla;
  const auto experts = root.find("n_routed_experts");
  read_feed_forward(root, a, experts.has_value(), [&] {
    MoeShape m;
    m.experts = experts->as_integer(1, kMostExperts);
    m.width = root.at("moe_intermediate_size").as_integer(1, kMostWidth);
    if (const auto shared = root.find("n_shared_experts")) m.shared = shared->as_integer(0, kMostExperts);
    read_choice(root, m, "num_experts_per_tok", "n_group");
    m.score = read_score(root, "scoring_func", v3 ? "sigmoid" : "softmax");
    const auto method = root.find("topk_method");
    m.score_bias = (method ? method->as_one_of({"greedy", "group_limited_greedy", "noaux_tc"})
                    : v3   ? "noaux_tc"
                           : "") == "noaux_tc";
    m.normalised = flag_or(root, "norm_topk_prob", v3);
    m.scale = read_scale(root);
    return m;
  });
  return a;
}

/// Which of `layers` layers have KDA, from the two lists of layer numbers, counted from 1. Numbers beyond the
/// last layer are passed over, as the published code does, so that a model can be cut short.
std::vector<bool> read_kda_layers(const Value& linear, std::size_t layers) {
  enum : std::uint8_t { none, kda, full };
  std::vector<std::uint8_t> kinds(layers, none);
  for (const auto& [key, kind] : {std::pair{"kda_layers", kda}, {"full_attn_layers", full}}) {
    for (const Value& item : linear.at(key).items()) {
      const auto number = static_cast<std::size_t>(item.as_integer(1, kMostLayers));
      if (number > layers) continue;
      if (kinds[number - 1] != none)
        throw item.error(fmt::format("layer {} is listed a second time", number));
      kinds[number - 1] = kind;
    }
  }
  std::vector<bool> is_kda(layers);
  for (std::size_t l = 0; l < layers; ++l) {
    if (kinds[l] == none) {
      throw linear.error(
          fmt::format("layer {} is in neither kda_layers nor full_attn_layers (layers count from 1)", l + 1));
    }
    is_kda[l] = kinds[l] == kda;
  }
  return is_kda;
}

Architecture read_kimi_linear(const Value& root, const std::string& name) {
  Architecture a = read_decoder(root, name, "model_max_length");
  MlaShape mla = read_mla(root);
  mla.rotated = !flag_or(root, "mla_use_nope", false);
  for (Layer& l : a.layers) l.attention = mla;
  if (const auto linear = root.find("linear_attn_config")) {
    KdaShape kda;
    kda.heads = linear->at("num_heads").as_integer(1, kMostHeads);
    // One size of head for keys and values, and the rank of both gates.
    kda.k_dim = kda.v_dim = kda.decay_rank = kda.gate_rank =
        linear->at("head_dim").as_integer(1, kMostHeadDim);
    kda.taps = linear->at("short_conv_kernel_size").as_integer(1, 64);
    const std::vector<bool> is_kda = read_kda_layers(*linear, a.layers.size());
    for (std::size_t l = 0; l < a.layers.size(); ++l) {
      if (is_kda[l]) a.layers[l].attention = kda;
    }
  }
  const auto experts = root.find("num_experts");
  read_feed_forward(root, a, experts.has_value(), [&] {
    MoeShape m;
    m.experts = experts->as_integer(1, kMostExperts);
    m.width = root.at("moe_intermediate_size").as_integer(1, kMostWidth);
    if (const auto shared = root.find("num_shared_experts")) m.shared = shared->as_integer(0, kMostExperts);
    read_choice(root, m, "num_experts_per_token", "num_expert_group");
    m.score = read_score(root, "moe_router_activation_func", "sigmoid");
    m.score_bias = true;
    m.normalised = flag_or(root, "moe_renormalize", true);
    m.scale = read_scale(root);
    return m;
  });
  return a;
}

struct Family {
  const char* name;
  Architecture (*read)(const Value&, const std::string&);
};
constexpr std::array kFamilies{Family{"llama", read_dense_mlp_decoder},
                               Family{"mistral", read_dense_mlp_decoder},
                               Family{"qwen2", read_dense_mlp_decoder},
                               Family{"qwen3", read_dense_mlp_decoder},
                               Family{"qwen3_moe", read_qwen3_moe},
                               Family{"deepseek_v2", read_deepseek},
                               Family{"deepseek_v3", read_deepseek},
                               Family{"kimi_linear", read_kimi_linear},
                               Family{"bert", read_bert}};

}  // namespace

Architecture read_hugging_face(const Value& root, const std::string& name) {
  std::vector<std::string> names;
  for (const Family& f : kFamilies) names.emplace_back(f.name);
  const std::string type = root.at("model_type").as_one_of(names);
  for (const Family& f : kFamilies) {
    if (type == f.name) return f.read(root, name);
  }
  throw root.at("model_type").error("not a known family");
}

}  // namespace tessera::models
