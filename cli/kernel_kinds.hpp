#pragma once
// The kernel kinds of the command line: each its keys, and how they make an operator.

#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "cli/command.hpp"
#include "models/operators/operator.hpp"
#include "sim/gpu/hbm/stream.hpp"

namespace tessera::cli {

/// The arguments of one kind. `values` holds every key: a default that names another key takes its value.
class Arguments {
 public:
  Arguments(std::string kind, std::map<std::string, std::string> values)
      : kind_{std::move(kind)}, values_{std::move(values)} {}

  /// A positive whole number, with Ki, Mi or Gi after it or not.
  std::int64_t integer(const std::string& key) const { return integer_from(key, 1); }
  /// The same of at least `least`.
  std::int64_t integer_from(const std::string& key, std::int64_t least) const;
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
  double number(const std::string& key, double least, double most) const;
  const std::string& text(const std::string& key) const { return values_.at(key); }
  bool is(const std::string& key, const char* text) const { return values_.at(key) == text; }
  bool truth(const std::string& key) const {
    return choice<bool>(
        key, {{"true", true}, {"false", false}, {"1", true}, {"0", false}, {"yes", true}, {"no", false}});
  }
  models::Dtype dtype() const;

 private:
  std::string kind_;
  std::map<std::string, std::string> values_;
};

inline constexpr const char* kRequired = nullptr;

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

/// Every kind that this build has, a family after the other.
const std::vector<Kind>& kinds();

// The families: a file each.
std::vector<Kind> dense_kinds();         ///< products and dense attention
std::vector<Kind> latent_kinds();        ///< multi-head latent attention and its products
std::vector<Kind> per_token_kinds();     ///< norms, rotation, activation, copies
std::vector<Kind> linear_kinds();        ///< linear attention and its short convolutions
std::vector<Kind> block_sparse_kinds();  ///< MoBA, whole and in shards
std::vector<Kind> dense_kinds();         ///< products and dense attention
std::vector<Kind> per_token_kinds();     ///< norms, rotation, activation, copies
std::vector<Kind> dense_kinds();         ///< products and dense attention
std::vector<Kind> expert_kinds();        ///< mixture of experts
std::vector<Kind> token_sparse_kinds();  ///< NSA and DSA
std::vector<Kind> per_token_kinds();     ///< norms, rotation, activation, copies
Kind hbm_stream_kind();

}  // namespace tessera::cli
