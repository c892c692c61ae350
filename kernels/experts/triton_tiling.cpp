#include "kernels/experts/triton_tiling.hpp"

#include <algorithm>

namespace tessera::kernels {

namespace {
std::uint32_t as32(std::int64_t n) { return static_cast<std::uint32_t>(n); }
}  // namespace

TritonTiling triton_tiling(std::int64_t tokens, std::int64_t experts, std::int64_t intermediate,
                           GpuArchitecture architecture) {
  if (architecture == GpuArchitecture::hopper) {
    if (const TritonTiling* tuned = tuned_tiling(tokens, experts, intermediate)) return *tuned;
  }
  TritonTiling t;
  t.block_m = tokens <= 32 ? 16 : tokens <= 96 ? 32 : tokens <= 512 ? 64 : 128;
  t.block_n = tokens <= 64 ? 64 : 128;
  t.block_k = tokens <= 64 ? 128 : 64;
  t.group_m = tokens / experts > 128 ? 16 : 1;
  t.warps = tokens <= 128 ? 4 : 8;
  t.stages = tokens <= 32 ? 4 : 3;
  return t;
}

bool unsorted(const models::Moe& moe) {
  constexpr std::int64_t kSparsity = 4;
  return moe.experts == moe.all_experts && moe.tokens * moe.topk * kSparsity <= moe.all_experts;
}

Blocks row_blocks(const models::Moe& moe, std::uint32_t block_m) {
  auto all = std::make_shared<RowBlocks>();
  const std::uint32_t most = unsorted(moe) ? 1 : block_m;
  std::uint32_t first = 0, weights = 0;
  for (const std::int32_t load : *moe.loads) {
    const auto rows = static_cast<std::uint32_t>(load);
    for (std::uint32_t r = 0; r < rows; r += most) {
      const std::uint32_t here = std::min(most, rows - r);
      all->blocks.push_back({weights, here, first, r, rows});
      first += here;
    }
    if (rows > 0) ++weights;
  }
  // sorted_token_ids: room for every row, and for all but one padded row of every expert, of all nodes.
  const std::int64_t rows = moe.tokens * moe.topk;
  std::int64_t padded = rows + moe.all_experts * (block_m - 1);
  if (rows < moe.all_experts) padded = std::min(padded, rows * block_m);
  if (moe.tokens < block_m) padded = std::min(padded, rows * block_m);
  const auto blocks = static_cast<std::uint32_t>(all->blocks.size());
  all->launched = std::max(blocks, unsorted(moe) ? blocks : as32((padded + block_m - 1) / block_m));
  return all;
}

}  // namespace tessera::kernels
