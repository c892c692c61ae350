#pragma once
// What a kernel is besides its size: a calibration on some of it says nothing of the rest.

#include <map>
#include <string>

#include "models/operators/operator.hpp"

namespace tessera::validate {

/// {"dtype": "bf16", "launch": "graph", "data": "random", ...}; of attention also "kv_cache" (plain, paged),
/// "mask" (causal, full), "algorithm" (fa2, fa3) and "output" (whole, partial).
std::map<std::string, std::string> traits_of(const models::Operator& op, bool graph, bool random_data);

}  // namespace tessera::validate
