// Our YAML: a uniform dense transformer in full, or what a config.json lacks on top of one (`base`).

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "models/architecture/fields.hpp"
#include "models/operators/block_sparse.hpp"

namespace tessera::models {

namespace {

constexpr std::int64_t kMostSteps = 1'000'000'000;

using config::Document;
using config::Value;
using namespace fields;

Architecture read_uniform(const Value& root) {
  root.allow_only({"name",      "family",      "layers",       "hidden",     "heads",           "kv_heads",
                   "head_dim",  "window",      "intermediate", "vocab",      "max_positions",   "norm",
                   "post_norm", "mlp",         "causal",       "rope_theta", "tied_embeddings", "qkv_bias",
                   "dtype",     "description", "moba"});
  Architecture a;
  a.name = root.at("name").as_string();
  a.family = root.find("family") ? root.at("family").as_string() : "custom";
  a.layers.resize(static_cast<std::size_t>(root.at("layers").as_integer(1, kMostLayers)));
  a.hidden = root.at("hidden").as_integer(1, kMostHidden);
  DenseShape dense = read_dense(root, a.hidden, "heads", "kv_heads");
  MlpShape mlp{.width = root.at("intermediate").as_integer(1, kMostWidth)};
  a.vocab = root.at("vocab").as_integer(1, kMostTokens);
  a.max_positions = positive_or(root, "max_positions", kMostTokens, std::int64_t{1} << 20);
  if (root.find("norm"))
    a.norm = root.at("norm").as_one_of({"rms", "layer"}) == "rms" ? NormKind::rms : NormKind::layer;
  a.post_norm = flag_or(root, "post_norm", false);
  if (root.find("mlp")) mlp.gated = root.at("mlp").as_one_of({"swiglu", "gelu"}) == "swiglu";
  a.causal = flag_or(root, "causal", true);
  a.language_head = a.causal;
  if (const auto window = root.find("window")) {
    dense.window = window->as_integer(1, kMostTokens);
    if (!a.causal) throw window->error("only a causal model has a sliding window");
  }
  const auto theta = root.find("rope_theta");
  dense.rope = theta.has_value();
  if (theta) a.rope_theta = theta->as_number(1, 1e12);
  a.tied_embeddings = flag_or(root, "tied_embeddings", false);
  dense.qkv_bias = flag_or(root, "qkv_bias", false);
  a.dtype = read_dtype(root, "dtype");
  for (Layer& l : a.layers) l = {dense, mlp};
  return a;
}

/// The model of another file, given more positions if this one says so.
Architecture read_based(const Value& root, const std::filesystem::path& base) {
  root.allow_only({"name", "base", "layers", "max_positions", "attention", "moba", "description"});
  const Document document = Document::read(base);
  if (document.root().is_map() && document.root().find("base"))
    throw root.at("base").error("names a file that has a base of its own; name that one");
  Architecture a = read_architecture(document);
  a.name = root.at("name").as_string();
  a.max_positions = positive_or(root, "max_positions", kMostTokens, a.max_positions);
  return a;
}

/// Gives every layer the attention that the base's first layer of that kind has.
void read_attention(const Value& wanted, Architecture& a) {
  std::vector<std::string> kinds;
  const auto key_of = [](const AttentionShape& shape) {
    static constexpr std::array keys{"dense", "moba", "mla", "kda"};
    return std::string{keys[shape.index()]};
  };
  for (const Layer& l : a.layers) {
    const std::string kind = key_of(l.attention);
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.push_back(kind);
  }
  const std::string kind = wanted.as_one_of(kinds);
  const auto from = std::find_if(a.layers.begin(), a.layers.end(),
                                 [&](const Layer& l) { return key_of(l.attention) == kind; });
  const AttentionShape shape = from->attention;
  for (Layer& l : a.layers) l.attention = shape;
}

/// full_tokens: [from, to]; to may be `end`.
TokenRange read_full_tokens(const Value& range) {
  const std::vector<Value> ends = range.items();
  if (ends.size() != 2)
    throw range.error("expected [from, to]: the first position, and the one after the last");
  const TokenRange full{ends[0].as_integer(0, kMostTokens),
                        ends[1].as_string() == "end" ? kMostTokens : ends[1].as_integer(0, kMostTokens)};
  if (full.empty()) throw range.error(fmt::format("no token lies in [{}, {})", full.from, full.to));
  return full;
}

/// Makes dense layers MoBA layers, but for the first and last few; none from training step full_from_step on.
void read_moba(const Value& moba, Architecture& a) {
  moba.allow_only({"block", "topk", "first_full", "last_full", "full_from_step", "step", "full_tokens"});
  if (!a.causal) throw moba.error("only a causal model can have it");
  const std::int64_t block = moba.at("block").as_integer(1, kMostTokens);
  const std::int64_t topk = moba.at("topk").as_integer(1, kMostTokens);
  const auto full = [&](const char* key) {
    const auto value = moba.find(key);
    return value ? value->as_integer(0, a.layer_count()) : 0;
  };
  Hybrid hybrid{.first_full = static_cast<int>(full("first_full")),
                .last_full = static_cast<int>(full("last_full"))};
  if (hybrid.first_full + hybrid.last_full > a.layer_count())
    throw moba.error(fmt::format("first_full and last_full exceed the {} layers", a.layer_count()));
  if (const auto from = moba.find("full_from_step")) hybrid.full_from_step = from->as_integer(0, kMostSteps);
  const auto at = moba.find("step");
  if (at && hybrid.full_from_step < 0) throw at->error("only with full_from_step does the step matter");
  const std::int64_t step = at ? at->as_integer(0, kMostSteps) : 0;
  const auto tokens = moba.find("full_tokens");
  const TokenRange full_tokens = tokens ? read_full_tokens(*tokens) : TokenRange{};
  for (int l = 0; l < a.layer_count(); ++l) {
    if (hybrid.full(l, static_cast<int>(a.layer_count()), step)) continue;
    AttentionShape& attention = a.layers[static_cast<std::size_t>(l)].attention;
    const auto* dense = std::get_if<DenseShape>(&attention);
    if (dense == nullptr || dense->window > 0) {
      throw moba.error(
          fmt::format("layer {} is {}: blocks can be chosen of dense attention only", l, name_of(attention)));
    }
    attention = MobaShape{.dense = *dense, .block = block, .topk = topk, .full = full_tokens};
  }
}

}  // namespace

std::optional<std::filesystem::path> base_of(const Document& document) {
  const Value root = document.root();
  const auto base = root.is_map() && !root.find("model_type") ? root.find("base") : std::nullopt;
  if (!base) return std::nullopt;
  const std::string name = base->as_string();
  std::filesystem::path file = root.file().parent_path() / name;
  std::error_code status;
  if (std::filesystem::is_directory(file, status)) file /= "config.json";
  if (!std::filesystem::is_regular_file(file, status)) {
    throw base->error(fmt::format(
        "expected a model's file, or a folder with a config.json, beside this one; there is no {}",
        file.string()));
  }
  return file;
}

Architecture read_own(const Document& document) {
  const Value root = document.root();
  const auto base = base_of(document);
  Architecture a = base ? read_based(root, *base) : read_uniform(root);
  if (const auto attention = base ? root.find("attention") : std::nullopt) read_attention(*attention, a);
  if (const auto moba = root.find("moba")) read_moba(*moba, a);
  // Cut short last: the layers that are left are of the whole model's kinds.
  if (const auto layers = base ? root.find("layers") : std::nullopt)
    a.layers.resize(static_cast<std::size_t>(layers->as_integer(1, a.layer_count())));
  return a;
}

}  // namespace tessera::models
