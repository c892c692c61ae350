#pragma once
// Whether an operator's kernels do all of its work.

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/library/lower.hpp"
#include "tests/kernels/counting.hpp"
#include "tests/kernels/gpus.hpp"

namespace tessera::tile::testing {

/// As a shard's rows and keys may lie: some rows see nothing.
template <class Attention>
void place_apart(Attention& op) {
  std::vector<std::int32_t> q, k;
  for (std::int64_t p = 0; p < op.q_rows; ++p) q.push_back(static_cast<std::int32_t>(3 * p));
  for (std::int64_t p = 0; p < op.kv_rows; ++p) k.push_back(static_cast<std::int32_t>(2 * p + 50));
  op.q_positions = std::make_shared<const std::vector<std::int32_t>>(std::move(q));
  op.kv_positions = std::make_shared<const std::vector<std::int32_t>>(std::move(k));
}

/// Runs all kernels of `op` functionally: every output byte must be stored exactly once, every input byte
/// asked for at least once in all, and the tensor cores must do at least the operator's FLOPs.
inline void check_operator(const models::Operator& op, const GpuSpec& gpu, bool tensor) {
  INFO(models::signature_of(op) << (gpu.sm.has_tma ? " on hopper" : " on ampere"));
  const kernels::Addresses addresses = addresses_for(op);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> stores;
  double tensor_flops = 0;
  std::uint64_t loaded = 0;
  for (const auto& kernel : kernels::lower(op, gpu, addresses)) {
    const Counts c = count(*kernel);
    stores.insert(stores.end(), c.stores.begin(), c.stores.end());
    tensor_flops += c.tensor_flops;
    loaded += c.loaded;
  }
  if (tensor) CHECK(tensor_flops >= models::flops_of(op));
  std::sort(stores.begin(), stores.end());
  const std::vector<models::Operand> operands = models::operands_of(op);
  std::uint64_t inputs = 0;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (!operands[i].written) {
      inputs += static_cast<std::uint64_t>(operands[i].bytes);
      continue;
    }
    std::uint64_t next = addresses.operands[i];
    for (const auto& [first, last] : stores) {
      if (first < addresses.operands[i] || first >= addresses.operands[i] + kStride) continue;
      REQUIRE(first == next);  // neither a gap nor an overlap
      next = last;
    }
    REQUIRE(next == addresses.operands[i] + static_cast<std::uint64_t>(operands[i].bytes));
  }
  const auto* attention = std::get_if<models::Attention>(&op);
  if (attention == nullptr || !attention->causal) CHECK(loaded >= inputs);
}

}  // namespace tessera::tile::testing
