#pragma once
// What both readers of architectures take out of a document, and the bounds within which every count of
// parameters and bytes stays inside 64 bits.

#include <cstdint>
#include <string_view>

#include "configs/reader/document.hpp"
#include "models/architecture/architecture.hpp"

namespace tessera::models::fields {

inline constexpr std::int64_t kMostLayers = 1 << 10;
inline constexpr std::int64_t kMostHidden = 1 << 18;
inline constexpr std::int64_t kMostWidth = 1 << 20;  ///< of a feed-forward network, or a low rank
inline constexpr std::int64_t kMostHeads = 1 << 12, kMostHeadDim = 1 << 12;
inline constexpr std::int64_t kMostExperts = 1 << 12;
inline constexpr std::int64_t kMostTokens = 1 << 24;  ///< of a vocabulary, or positions

std::int64_t positive_or(const config::Value& map, std::string_view key, std::int64_t most,
                         std::int64_t otherwise);
bool flag_or(const config::Value& map, std::string_view key, bool otherwise);
/// bf16 if the key is absent. fp32 checkpoints (BERT) are served in bf16.
Dtype read_dtype(const config::Value& map, std::string_view key);
/// heads, kv_heads (default: heads) and head_dim (default: hidden / heads) of dense attention.
DenseShape read_dense(const config::Value& map, std::int64_t hidden, std::string_view heads_key,
                      std::string_view kv_heads_key);

}  // namespace tessera::models::fields

namespace tessera::models {

/// config.json; `name` is the model's.
Architecture read_hugging_face(const config::Value& root, const std::string& name);
/// Our YAML.
Architecture read_own(const config::Document& document);

}  // namespace tessera::models
