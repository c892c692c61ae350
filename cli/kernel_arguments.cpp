#include "cli/kernel_arguments.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <map>
#include <stdexcept>
#include <variant>

#include "cli/command.hpp"
#include "configs/reader/document.hpp"

namespace tessera::cli {

namespace {

/// The arguments of one kind. `values` holds every key: a default that names another key takes its value.
class Arguments {
 public:
  Arguments(std::string kind, std::map<std::string, std::string> values)
      : kind_{std::move(kind)}, values_{std::move(values)} {}

  std::int64_t integer(const std::string& key) const {
    const std::string& text = values_.at(key);
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    std::int64_t unit = 1;
    if (error == std::errc{} && end != text.data() + text.size()) {
      const std::string suffix{end, text.data() + text.size()};
      if (suffix == "Ki")
        unit = 1 << 10;
      else if (suffix == "Mi")
        unit = 1 << 20;
      else if (suffix == "Gi")
        unit = 1 << 30;
      else
        unit = 0;
    }
    if (error != std::errc{} || unit == 0) {
      throw UsageError{
          fmt::format("kernel {}: {}: expected a whole number (4096, or 4Ki), not '{}'", kind_, key, text)};
    }
    if (value <= 0 || value > (std::int64_t{1} << 50) / unit) {
      throw UsageError{
          fmt::format("kernel {}: {}: must be positive and less than 2^50, not {}", kind_, key, text)};
    }
    return value * unit;
  }
  template <class T>
  T choice(const std::string& key, const std::vector<std::pair<std::string, T>>& choices) const {
    const std::string& text = values_.at(key);
    std::vector<std::string> names;
    for (const auto& [name, value] : choices) {
      if (name == text) return value;
      names.push_back(name);
    }
    throw UsageError{
        fmt::format("kernel {}: {}: expected {}, not '{}'", kind_, key, fmt::join(names, " or "), text)};
  }
  double number(const std::string& key, double least, double most) const {
    const std::string& text = values_.at(key);
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || !(value >= least && value <= most)) {
      throw UsageError{fmt::format("kernel {}: {}: expected a number from {} to {}, not '{}'", kind_, key,
                                   least, most, text)};
    }
    return value;
  }
  bool is(const std::string& key, const char* text) const { return values_.at(key) == text; }
  bool truth(const std::string& key) const {
    return choice<bool>(
        key, {{"true", true}, {"false", false}, {"1", true}, {"0", false}, {"yes", true}, {"no", false}});
  }
  models::Dtype dtype() const {
    using models::Dtype;
    return choice<Dtype>(
        "dtype", {{"bf16", Dtype::bf16}, {"fp16", Dtype::fp16}, {"fp8", Dtype::fp8}, {"fp32", Dtype::fp32}});
  }

 private:
  std::string kind_;
  std::map<std::string, std::string> values_;
};

constexpr const char* kRequired = "";

struct Key {
  const char* name;
  const char* value = kRequired;  ///< the default; the name of another key: that key's value
};

using Work = std::variant<models::Operator, sim::HbmStream>;

struct Kind {
  const char* name;
  const char* summary;
  std::vector<Key> keys;
  std::function<Work(const Arguments&)> build;
  bool drives_hbm = false;  ///< without SMs: the common keys mean nothing to it
};

// Keys that every kind takes.
const std::vector<Key> kCommonKeys{
    {"dtype", "bf16"}, {"data", "random"}, {"l2", "warm"}, {"launch", "graph"}};

int flash_version(const Arguments& a) { return a.choice<int>("algorithm", {{"fa3", 3}, {"fa2", 2}}); }

/// paged: a serving engine's call, which extends the cache and then reads it through a page table.
bool paged(const Arguments& a) { return a.choice<bool>("kv_cache", {{"plain", false}, {"paged", true}}); }

const std::vector<Kind>& kinds() {
  using namespace models;
  static const std::vector<Kind> all{
      {"gemm",
       "C[m,n] = A[m,k] B[n,k]^T",
       {{"m"}, {"n"}, {"k"}},
       [](const Arguments& a) -> Operator {
         return Gemm{.m = a.integer("m"), .n = a.integer("n"), .k = a.integer("k"), .dtype = a.dtype()};
       }},
      {"attention_prefill",
       "self-attention of whole sequences (FlashAttention)",
       {{"batch", "1"},
        {"seq"},
        {"heads"},
        {"kv_heads", "heads"},
        {"head_dim", "128"},
        {"causal", "true"},
        {"algorithm", "fa3"},
        {"kv_cache", "plain"}},
       [](const Arguments& a) -> Operator {
         const std::int64_t seq = a.integer("seq");
         return Attention{.batch = a.integer("batch"),
                          .q_rows = seq,
                          .kv_rows = seq,
                          .heads = a.integer("heads"),
                          .kv_heads = a.integer("kv_heads"),
                          .head_dim = a.integer("head_dim"),
                          .causal = a.truth("causal"),
                          .dtype = a.dtype(),
                          .flash_version = flash_version(a),
                          .paged = paged(a)};
       }},
      {"attention_partial",
       "an AttnNode's share: out, row maximum and sum of exponentials",
       {{"batch", "1"},
        {"q_rows"},
        {"kv_rows", "q_rows"},
        {"heads"},
        {"kv_heads", "heads"},
        {"head_dim", "128"},
        {"causal", "true"},
        {"algorithm", "fa3"}},
       [](const Arguments& a) -> Operator {
         return Attention{.batch = a.integer("batch"),
                          .q_rows = a.integer("q_rows"),
                          .kv_rows = a.integer("kv_rows"),
                          .heads = a.integer("heads"),
                          .kv_heads = a.integer("kv_heads"),
                          .head_dim = a.integer("head_dim"),
                          .causal = a.truth("causal"),
                          .partial = true,
                          .dtype = a.dtype(),
                          .flash_version = flash_version(a)};
       }},
      {"attention_decode",
       "one query row per sequence against a cache",
       {{"batch", "1"},
        {"context"},
        {"heads"},
        {"kv_heads", "heads"},
        {"head_dim", "128"},
        {"kv_cache", "plain"}},
       [](const Arguments& a) -> Operator {
         return AttentionDecode{.batch = a.integer("batch"),
                                .context = a.integer("context"),
                                .heads = a.integer("heads"),
                                .kv_heads = a.integer("kv_heads"),
                                .head_dim = a.integer("head_dim"),
                                .dtype = a.dtype(),
                                .paged = paged(a)};
       }},
      {"merge",
       "combines partial attention results by maximum and sum of exponentials",
       {{"rows"}, {"heads"}, {"head_dim", "128"}, {"parts"}},
       [](const Arguments& a) -> Operator {
         return Merge{.rows = a.integer("rows"),
                      .heads = a.integer("heads"),
                      .head_dim = a.integer("head_dim"),
                      .parts = a.integer("parts"),
                      .dtype = a.dtype()};
       }},
      {"norm",
       "RMSNorm or LayerNorm of each row",
       {{"rows"}, {"width"}, {"type", "rms"}, {"residual", "false"}},
       [](const Arguments& a) -> Operator {
         return Norm{.rows = a.integer("rows"),
                     .width = a.integer("width"),
                     .kind = a.choice<NormKind>("type", {{"rms", NormKind::rms}, {"layer", NormKind::layer}}),
                     .residual = a.truth("residual"),
                     .dtype = a.dtype()};
       }},
      {"rope",
       "rotates q and k in place",
       {{"rows"}, {"heads"}, {"kv_heads", "heads"}, {"head_dim", "128"}},
       [](const Arguments& a) -> Operator {
         return Rope{.rows = a.integer("rows"),
                     .heads = a.integer("heads"),
                     .kv_heads = a.integer("kv_heads"),
                     .head_dim = a.integer("head_dim"),
                     .dtype = a.dtype()};
       }},
      {"activation",
       "SwiGLU or GELU",
       {{"rows"}, {"width"}, {"type", "swiglu"}},
       [](const Arguments& a) -> Operator {
         return Activation{.rows = a.integer("rows"),
                           .width = a.integer("width"),
                           .kind = a.choice<ActivationKind>(
                               "type", {{"swiglu", ActivationKind::swiglu}, {"gelu", ActivationKind::gelu}}),
                           .dtype = a.dtype()};
       }},
      {"softmax",
       "row softmax of an explicit matrix",
       {{"rows"}, {"width"}},
       [](const Arguments& a) -> Operator {
         return Softmax{.rows = a.integer("rows"), .width = a.integer("width"), .dtype = a.dtype()};
       }},
      {"memcpy",
       "device-to-device copy",
       {{"bytes"}},
       [](const Arguments& a) -> Operator { return Copy{.bytes = a.integer("bytes")}; }},
      {"embedding",
       "gathers rows of a table",
       {{"rows"}, {"width"}},
       [](const Arguments& a) -> Operator {
         return Embedding{.rows = a.integer("rows"), .width = a.integer("width"), .dtype = a.dtype()};
       }},
      {"hbm_stream",
       "drives the HBM alone: pattern=sequential|strided|random|same_bank|same_bank_group (docs/hbm.md)",
       {{"pattern"},
        {"reads", "1"},
        {"bytes", "auto"},
        {"size", "256"},
        {"stride", "4096"},
        {"in_flight", "64"},
        {"rate", "0"},
        {"seed", "1"}},
       [](const Arguments& a) -> Work {
         using sim::HbmPattern;
         return sim::HbmStream{
             .pattern = a.choice<HbmPattern>("pattern", {{"sequential", HbmPattern::sequential},
                                                         {"strided", HbmPattern::strided},
                                                         {"random", HbmPattern::random},
                                                         {"same_bank", HbmPattern::same_bank},
                                                         {"same_bank_group", HbmPattern::same_bank_group}}),
             .reads = a.number("reads", 0, 1),
             .bytes = a.is("bytes", "auto") ? 0 : a.integer("bytes"),
             .stride = a.integer("stride"),
             .size = a.choice<int>("size", {{"32", 32}, {"64", 64}, {"128", 128}, {"256", 256}}),
             .in_flight = static_cast<int>(a.number("in_flight", 1, 60'000)),
             .rate_gb_per_s = a.number("rate", 0, 1e6),
             .seed = static_cast<std::uint64_t>(a.integer("seed"))};
       },
       true},
  };
  return all;
}

// Kinds of the design that this build cannot simulate.
const std::vector<std::string> kLaterKinds{"mla_prefill", "mla_decode",     "moba_prefill", "kda_prefill",
                                           "kda_decode",  "causal_conv1d",  "moe",          "all_reduce",
                                           "all_gather",  "reduce_scatter", "all_to_all",   "send_recv"};

std::vector<std::string> kind_names() {
  std::vector<std::string> names;
  for (const Kind& k : kinds()) names.emplace_back(k.name);
  return names;
}

const Kind& find_kind(const std::string& name) {
  const auto found =
      std::find_if(kinds().begin(), kinds().end(), [&](const Kind& k) { return k.name == name; });
  if (found != kinds().end()) return *found;
  const std::string can = fmt::format("this build has: {}", fmt::join(kind_names(), ", "));
  if (is_later_kind(name)) {
    throw UsageError{fmt::format("kernel {}: not in this build; {}", name, can)};
  }
  const std::string near = config::nearest(name, kind_names());
  throw UsageError{fmt::format("kernel: unknown kind '{}'; {}{}", name,
                               near.empty() ? "" : fmt::format("did you mean '{}'? ", near), can)};
}

std::vector<Key> keys_of(const Kind& kind) {
  std::vector<Key> keys = kind.keys;
  if (!kind.drives_hbm) keys.insert(keys.end(), kCommonKeys.begin(), kCommonKeys.end());
  return keys;
}

std::string keys_text(const std::vector<Key>& keys) {
  std::vector<std::string> words;
  for (const Key& k : keys)
    words.push_back(k.value == kRequired ? k.name : fmt::format("{}={}", k.name, k.value));
  return fmt::format("{}", fmt::join(words, " "));
}

}  // namespace

bool is_later_kind(const std::string& kind) {
  return std::find(kLaterKinds.begin(), kLaterKinds.end(), kind) != kLaterKinds.end();
}

const std::vector<KernelKind>& kernel_kinds() {
  static const std::vector<KernelKind> all = [] {
    std::vector<KernelKind> list;
    for (const Kind& k : kinds()) list.push_back({k.name, keys_text(k.keys), k.summary});
    return list;
  }();
  return all;
}

KernelRequest parse_kernel(const std::string& kind_name, const std::vector<std::string>& arguments) {
  const Kind& kind = find_kind(kind_name);
  const std::vector<Key> keys = keys_of(kind);
  std::vector<std::string> names;
  for (const Key& k : keys) names.emplace_back(k.name);

  std::map<std::string, std::string> values;
  for (const std::string& argument : arguments) {
    const std::size_t equals = argument.find('=');
    const std::string key = argument.substr(0, equals);
    if (equals == std::string::npos || equals == 0 || equals + 1 == argument.size()) {
      throw UsageError{fmt::format("kernel {}: expected key=value, not '{}'", kind_name, argument)};
    }
    if (std::find(names.begin(), names.end(), key) == names.end()) {
      const std::string near = config::nearest(key, names);
      throw UsageError{
          fmt::format("kernel {}: unknown key '{}'; {}", kind_name, key,
                      near.empty() ? "keys: " + keys_text(keys) : fmt::format("did you mean '{}'?", near))};
    }
    if (!values.emplace(key, argument.substr(equals + 1)).second) {
      throw UsageError{fmt::format("kernel {}: {} is given twice", kind_name, key)};
    }
  }
  std::vector<std::string> missing;
  for (const Key& k : keys) {
    if (k.value == kRequired && !values.contains(k.name)) missing.emplace_back(k.name);
  }
  if (!missing.empty()) {
    throw UsageError{
        fmt::format("kernel {}: missing {}; keys: {}", kind_name, fmt::join(missing, ", "), keys_text(keys))};
  }
  for (const Key& k : keys) {
    if (values.contains(k.name)) continue;
    const auto other = values.find(k.value);
    values[k.name] = other == values.end() ? k.value : other->second;
  }

  KernelRequest request{.kind = kind_name, .op = models::Copy{}};
  const Arguments checked{kind_name, values};
  for (const Key& k : keys) request.arguments.emplace_back(k.name, values.at(k.name));
  const Work work = kind.build(checked);
  if (const auto* stream = std::get_if<sim::HbmStream>(&work)) {
    request.hbm_stream = *stream;
    return request;
  }
  request.op = std::get<models::Operator>(work);
  try {
    models::check(request.op);
  } catch (const std::invalid_argument& e) {
    throw UsageError{fmt::format("kernel {}", e.what())};
  }
  request.options.graph = checked.choice<bool>("launch", {{"graph", true}, {"host", false}});
  request.options.random_data = checked.choice<bool>("data", {{"random", true}, {"zeros", false}});
  request.options.replayed = checked.choice<bool>("l2", {{"warm", true}, {"cold", false}});
  if (request.options.replayed) {
    for (std::uint32_t i = 0; i < models::operands_of(request.op).size(); ++i)
      request.options.warm_operands.push_back(i);
  }
  return request;
}

}  // namespace tessera::cli
