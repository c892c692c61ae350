#pragma once
// A mixture of experts in CUDA, beside the tile programs of vLLM's Triton kernels: router, grouping of rows
// by expert, both grouped products by mma.sync (rows gathered, 64 x 128 tiles), SwiGLU, and the weighted sum.
// Or, for products by a library (grouped_product.hpp), rows brought together by expert, and their sum from
// there.

#include "kernels/cuda/host_device.hpp"
#include "kernels/cuda/launch.hpp"

namespace tessera::cuda {

inline constexpr int kMoeRows = 64, kMoeColumns = 128, kMoeDepth = 64;  ///< of a tile of the grouped products
inline constexpr int kMoeMostTopk = 16, kMoeMostExperts = 1024;

/// Row-major. ids and weights [tokens, topk] say where each token goes. bf16: x and out [tokens, hidden], up
/// [experts, 2 intermediate, hidden] (gates, then values), down [experts, hidden, intermediate]. hidden and
/// intermediate: multiples of 128.
struct MoeCall {
  const void *x = nullptr, *up = nullptr, *down = nullptr;
  const std::int32_t* ids = nullptr;
  const float* weights = nullptr;
  void* out = nullptr;
  std::int64_t tokens = 0, hidden = 0, intermediate = 0, experts = 0, topk = 1;

  /// Rows are grouped by expert; each group begins at a multiple of so many, 64 or 1.
  std::int64_t tile_rows = kMoeRows;

  // Scratch.
  std::int32_t* rows = nullptr;  ///< [most_tiles x tile_rows]: token x topk + choice, or -1
  std::int32_t* expert =
      nullptr;  ///< [most_tiles]: of each tile of 64 rows; -1 beyond the last. Null: not asked for
  std::int32_t* place = nullptr;  ///< [tokens x topk]: where `rows` has each. Null: results lie by token
  void* gate_up = nullptr;        ///< bf16 [tokens x topk, 2 intermediate]
  void* active = nullptr;         ///< bf16 [tokens x topk, intermediate]
  void* results = nullptr;        ///< bf16 [tokens x topk, hidden]
  void* gathered = nullptr;       ///< bf16 [tokens x topk, hidden]: of tile_rows 1
  /// Every expert's last tile may be partly empty; no more tiles than rows.
  TESSERA_HOST_DEVICE constexpr std::int64_t most_tiles() const {
    const std::int64_t all = tokens * topk, busy = experts < all ? experts : all;
    return tile_rows == 1 ? all : all / tile_rows + busy;
  }
};
void launch_moe_group(const MoeCall& call, Stream stream);
void launch_moe_up(const MoeCall& call, Stream stream);
void launch_moe_activation(const MoeCall& call, Stream stream);
void launch_moe_down(const MoeCall& call, Stream stream);
/// Tokens' rows to their experts' places, in `gathered`.
void launch_moe_gather(const MoeCall& call, Stream stream);
void launch_moe_sum(const MoeCall& call, Stream stream);

/// Where each group's matrices of a grouped product begin (grouped_product.hpp).
struct GroupedAddresses {
  std::int64_t groups = 0;
  const std::int32_t* listed = nullptr;  ///< [2, groups]: expert, first row
  const void *weights = nullptr, *in = nullptr;
  void* out = nullptr;
  std::int64_t width = 0, depth = 0;
  void* addresses = nullptr;  ///< [3, groups]: of weights, in and out
};
void launch_grouped_addresses(const GroupedAddresses& call, Stream stream);

/// The topk largest of each token's fp32 logits, best first, the lower index of equal ones; weights: softmax
/// over all experts, brought to a sum of 1 over those chosen. experts at most 1024, topk at most 16.
struct RouterCall {
  const float* logits = nullptr;
  std::int32_t* ids = nullptr;
  float* weights = nullptr;
  std::int64_t tokens = 0, experts = 0, topk = 1;
};
void launch_router(const RouterCall& call, Stream stream);

}  // namespace tessera::cuda
