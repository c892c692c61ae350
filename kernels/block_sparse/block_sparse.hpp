#pragma once
// Block-sparse gated attention, and the parts of its sharded dataflow: models/operators/block_sparse.hpp.
//
// five_step: MoonshotAI/MoBA, moba_efficient.py, a kernel for every step of PyTorch that moves more than a
// few KB. fused: FlashMoBA (mit-han-lab/flash-moba @ e9f8481e): block means, tiled top-k that keeps its
// scores in shared memory, lists of queries by block, gather-and-densify attention.

#include <memory>
#include <vector>

#include "kernels/library/lower.hpp"

namespace tessera::kernels {

std::vector<std::unique_ptr<tile::Kernel>> make_moba(const models::Moba& op, const GpuSpec& gpu,
                                                     const Addresses& addresses);
std::vector<std::unique_ptr<tile::Kernel>> make_block_pool(const models::BlockPool& op, const GpuSpec& gpu,
                                                           const Addresses& addresses);
std::vector<std::unique_ptr<tile::Kernel>> make_block_gate(const models::BlockGate& op, const GpuSpec& gpu,
                                                           const Addresses& addresses);
std::vector<std::unique_ptr<tile::Kernel>> make_block_sparse_attention(const models::BlockSparseAttention& op,
                                                                       const GpuSpec& gpu,
                                                                       const Addresses& addresses);

/// The five_step form alone.
std::vector<std::unique_ptr<tile::Kernel>> make_five_step(const models::Moba& op, const GpuSpec& gpu,
                                                          const Addresses& addresses);

}  // namespace tessera::kernels
