#pragma once
// Attention as a serving engine calls it: the new k and v rows are first written into a paged cache, then
// FlashAttention-3 attends through the page table. Prefill and decode are the same kernels.
//
// The kernels, in order: the cache write; FlashAttention-3's schedule (sequence lengths to tiles and splits);
// its variable-length kernel; and, if the schedule may split the keys, the combination of the splits.
// [SGLang RadixAttention and jit_kernel/csrc/elementwise/kvcache.cuh; FlashAttention hopper/flash_api.cpp]

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/library/lower.hpp"

namespace tessera::kernels {

/// One call. Sequences are equally long; the new rows are the last ones.
struct PagedCall {
  std::int64_t batch = 1, new_rows = 0, context = 0;  ///< per sequence; the context includes the new rows
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
  bool causal = true;
  std::int64_t element_bytes = 2;

  std::int64_t pages() const { return (context + models::kPageRows - 1) / models::kPageRows; }
  std::int64_t group() const { return heads / kv_heads; }
  /// Keys that query row `q` of a sequence sees.
  std::int64_t visible(std::int64_t q) const { return causal ? context - new_rows + q + 1 : context; }
};

/// Where the call's arrays lie. The cache's pages are taken to be consecutive, as a fresh allocator hands
/// them out.
struct PagedAddresses {
  std::uint64_t q = 0, k_new = 0, v_new = 0, k_cache = 0, v_cache = 0, out = 0;
  std::uint64_t places = 0;      ///< of the new rows
  std::uint64_t pages = 0;       ///< the page table
  std::uint64_t lengths = 0;     ///< of the sequences, four words each
  std::uint64_t schedule = 0;    ///< four words per sequence
  std::uint64_t partials = 0;    ///< fp32 results of the splits
  std::uint64_t statistics = 0;  ///< their maximum and sum
};

std::vector<std::unique_ptr<tile::Kernel>> make_paged_attention(const models::Attention& attention,
                                                                const GpuSpec& gpu,
                                                                const Addresses& addresses);
std::vector<std::unique_ptr<tile::Kernel>> make_paged_decode(const models::AttentionDecode& attention,
                                                             const GpuSpec& gpu, const Addresses& addresses);

}  // namespace tessera::kernels
