#pragma once
// The tiles of vLLM's fused_moe_kernel, a Triton kernel, and how its blocks of rows lie.

#include <cstdint>
#include <memory>
#include <vector>

#include "models/operators/experts.hpp"
#include "sim/core/hardware.hpp"

namespace tessera::kernels {

struct TritonTiling {
  std::uint32_t block_m = 16, block_n = 64, block_k = 128;
  std::uint32_t group_m = 1;  ///< blocks of rows that share a column of weights before the next column
  std::uint32_t warps = 4, stages = 4;
};

/// What vLLM launches: on Hopper, of its tuned files for the H200 the nearest number of tokens, where it has
/// one for these experts and this width; else its rule of thumb (get_default_config), which looks at tokens
/// and experts only, not at the GPU. vllm-project/vllm, vllm/model_executor/layers/fused_moe/fused_moe.py and
/// configs/, v0.17 to v0.27. (Its few files for the A100 are of other models' experts than Kimi-Linear's.)
TritonTiling triton_tiling(std::int64_t tokens, std::int64_t experts, std::int64_t intermediate,
                           GpuArchitecture architecture);

/// The tuned tiles; null where vLLM has none.
const TritonTiling* tuned_tiling(std::int64_t tokens, std::int64_t experts, std::int64_t intermediate);

/// The rows sorted by expert, each expert's padded to whole blocks.
struct RowBlocks {
  struct Block {
    std::uint32_t weights = 0;    ///< which of the experts with rows
    std::uint32_t rows = 0;       ///< valid ones
    std::uint32_t first = 0;      ///< of the sorted rows, not counting the padding
    std::uint32_t in_expert = 0;  ///< of its expert's rows
    std::uint32_t load = 0;       ///< of its expert
  };
  std::vector<Block> blocks;
  /// Blocks that the grid is launched for: the sorted indices are allocated for the worst case, and a CTA
  /// beyond the last block returns at once.
  std::uint32_t launched = 0;
};
using Blocks = std::shared_ptr<const RowBlocks>;

/// Few tokens on all experts: each row is a block of its own, and nothing is sorted (vLLM's
/// naive_block_assignment).
bool unsorted(const models::Moe& moe);
Blocks row_blocks(const models::Moe& moe, std::uint32_t block_m);

}  // namespace tessera::kernels
