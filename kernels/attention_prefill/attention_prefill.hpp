#pragma once
// Dense attention over whole sequences, or over the q and kv rows of one shard (partial results).
//
// FlashAttention-3 on Hopper: a persistent grid; one producer warpgroup loads Q once per tile and K, V
// through two-stage rings by TMA; each consumer warpgroup owns 64 query rows. Between warpgroups, named
// barriers alternate their products ("ping-pong"), so that the softmax of one runs beside the wgmma of the
// other; within a warpgroup, QK of the next K tile is issued before PV of the last one and the softmax runs
// while PV is pending. FlashAttention-2 (cp.async, mma.sync, four or eight warps) elsewhere or on request.
// [arXiv 2407.08608, 2307.08691]

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/library/lower.hpp"

namespace tessera::kernels {

std::vector<std::unique_ptr<tile::Kernel>> make_attention_prefill(const models::Attention& attention,
                                                                  const GpuSpec& gpu,
                                                                  const Addresses& addresses);

}  // namespace tessera::kernels
