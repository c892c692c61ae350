#pragma once
// A transformer's architecture as data, from our YAML or a Hugging Face config.json.

#include <cstdint>
#include <filesystem>
#include <string>

#include "models/operators/operator.hpp"

namespace tessera::config {
class Document;
}

namespace tessera::models {

struct Architecture {
  std::string name;
  std::string family;  ///< "llama", "mistral", "qwen2", "qwen3", "bert"
  std::int64_t layers = 0;
  std::int64_t hidden = 0;
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
  std::int64_t intermediate = 0;  ///< MLP width
  std::int64_t vocab = 0;
  std::int64_t max_positions = 0;
  NormKind norm = NormKind::rms;
  bool post_norm = false;  ///< BERT: normalise after the residual sum
  bool gated_mlp = true;   ///< SwiGLU; else GELU
  bool causal = true;
  bool rope = true;
  double rope_theta = 10000;
  bool tied_embeddings = false;
  bool qkv_bias = false, output_bias = false, mlp_bias = false;
  bool qk_norm = false;  ///< RMSNorm of each q and k head (qwen3)
  bool learned_positions = false;
  std::int64_t token_types = 0;  ///< BERT segment embeddings
  bool pooler = false;
  bool language_head = true;  ///< projects to the vocabulary
  Dtype dtype = Dtype::bf16;

  /// Every weight and bias; tied embeddings count once.
  std::int64_t parameters() const;
  /// K and V of one token over all layers.
  std::int64_t kv_bytes_per_token() const;
};

/// Reads an architecture, telling our YAML from a config.json by its content. Throws config::InputError at
/// the file, line and key of what is missing, impossible or not supported.
Architecture read_architecture(const std::filesystem::path& file);
/// The same from a document that may have been changed since it was read (`--set`).
Architecture read_architecture(const config::Document& document);

}  // namespace tessera::models
