#include "models/architecture/architecture.hpp"

#include <fmt/format.h>

#include <utility>

namespace tessera::models {

std::int64_t Architecture::parameters() const {
  const std::int64_t norm_size = norm == NormKind::layer ? 2 * hidden : hidden;
  std::int64_t total = 0;
  for (const Layer& l : layers)
    total += parameters_of(l.attention, hidden) + parameters_of(l.feed_forward, hidden) + 2 * norm_size;
  // One more norm: after the last layer, or (post-norm) after the embedding.
  total += vocab * hidden + norm_size;
  if (learned_positions) total += max_positions * hidden;
  total += token_types * hidden;
  if (pooler) total += hidden * hidden + hidden;
  if (language_head && !tied_embeddings) total += vocab * hidden;
  return total;
}

std::int64_t Architecture::active_parameters() const {
  std::int64_t active = parameters();
  for (const Layer& l : layers)
    active -= parameters_of(l.feed_forward, hidden) - active_parameters_of(l.feed_forward, hidden);
  const bool table_is_head = language_head && tied_embeddings;
  if (!table_is_head) active -= (vocab - 1) * hidden;
  if (learned_positions) active -= (max_positions - 1) * hidden;
  if (token_types > 0) active -= (token_types - 1) * hidden;
  return active;
}

std::int64_t Architecture::kv_bytes_per_token() const {
  std::int64_t bytes = 0;
  if (!causal) return bytes;
  for (const Layer& l : layers) bytes += models::kv_bytes_per_token(l.attention, dtype);
  return bytes;
}

std::int64_t Architecture::state_bytes_per_sequence() const {
  std::int64_t bytes = 0;
  for (const Layer& l : layers) bytes += models::state_bytes_per_sequence(l.attention, dtype);
  return bytes;
}

std::string layers_text(const Architecture& model) {
  // Kinds in order of appearance.
  using Kinds = std::vector<std::pair<std::string_view, std::int64_t>>;
  const auto count = [](Kinds& kinds, std::string_view name) {
    for (auto& [known, n] : kinds) {
      if (known == name) {
        ++n;
        return;
      }
    }
    kinds.emplace_back(name, 1);
  };
  Kinds attention, feed_forward;
  for (const Layer& l : model.layers) {
    count(attention, name_of(l.attention));
    count(feed_forward, name_of(l.feed_forward));
  }
  if (attention.size() == 1 && feed_forward.size() == 1)
    return fmt::format("{} {} + {}", model.layer_count(), attention[0].first, feed_forward[0].first);
  std::string text;
  for (const Kinds& kinds : {attention, feed_forward}) {
    for (std::size_t i = 0; i < kinds.size(); ++i) {
      const std::string_view separator = i > 0 ? ", " : text.empty() ? "" : "; ";
      text += fmt::format("{}{} {}", separator, kinds[i].second, kinds[i].first);
    }
  }
  return text;
}

}  // namespace tessera::models
