#pragma once
// A transformer's architecture as data, from our YAML or a Hugging Face config.json.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "models/architecture/layer.hpp"
#include "models/operators/operator.hpp"

namespace tessera::config {
class Document;
}

namespace tessera::models {

struct Architecture {
  std::string name;
  std::string family;  ///< a config.json's model_type; our YAML may say anything
  std::vector<Layer> layers;
  std::int64_t hidden = 0;
  std::int64_t vocab = 0;
  std::int64_t max_positions = 0;
  NormKind norm = NormKind::rms;
  bool post_norm = false;  ///< BERT: normalise after the residual sum
  bool causal = true;
  double rope_theta = 10000;
  bool tied_embeddings = false;
  bool learned_positions = false;
  std::int64_t token_types = 0;  ///< BERT segment embeddings
  bool pooler = false;
  bool language_head = true;  ///< projects to the vocabulary
  Dtype dtype = Dtype::bf16;

  std::int64_t layer_count() const { return static_cast<std::int64_t>(layers.size()); }

  /// Every weight and bias; tied embeddings count once.
  std::int64_t parameters() const;
  /// Those that one token meets: not the experts that it is not sent to, and one row of each table that is
  /// only looked up in.
  std::int64_t active_parameters() const;
  /// What a further token adds to the caches of all layers. A bidirectional model has none.
  std::int64_t kv_bytes_per_token() const;
  /// What all layers keep of a sequence whatever its length.
  std::int64_t state_bytes_per_sequence() const;
};

/// "32 dense + MLP", or "20 KDA, 7 MLA (NoPE); 1 MLP, 26 MoE".
std::string layers_text(const Architecture& model);

/// Reads an architecture, telling our YAML from a config.json by its content. Throws config::InputError at
/// the file, line and key of what is missing, impossible or not supported.
Architecture read_architecture(const std::filesystem::path& file);
/// The same from a document that may have been changed since it was read (`--set`).
Architecture read_architecture(const config::Document& document);

/// The file that the `base` of our YAML names, if the document has one. Throws config::InputError if it
/// names none.
std::optional<std::filesystem::path> base_of(const config::Document& document);

}  // namespace tessera::models
