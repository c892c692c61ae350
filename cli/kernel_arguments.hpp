#pragma once
// "gemm m=8192 n=8192 k=8192" -> an operator and how to run it.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models/operators/operator.hpp"
#include "sim/gpu/hbm/stream.hpp"
#include "sim/gpu/kernel_run.hpp"

namespace tessera::cli {

struct KernelRequest {
  std::string kind;
  models::Operator op;
  sim::KernelOptions options;
  /// Set for hbm_stream, which drives the HBM alone: then there is no operator.
  std::optional<sim::HbmStream> hbm_stream;
  /// Every key of the kind with its value, defaults included, in the order of the kind's keys.
  std::vector<std::pair<std::string, std::string>> arguments;
};

/// Throws UsageError: an unknown kind or key (with the nearest), a key given twice, missing or malformed, an
/// impossible shape.
KernelRequest parse_kernel(const std::string& kind, const std::vector<std::string>& arguments);

struct KernelKind {
  std::string name;
  std::string keys;  ///< "m n k", with defaults: "batch=1 seq heads kv_heads=heads ..."
  std::string summary;
};
/// Whether `kind` is one that parse_kernel will know in a later build.
bool is_later_kind(const std::string& kind);
/// The kinds that parse_kernel knows.
const std::vector<KernelKind>& kernel_kinds();

}  // namespace tessera::cli
