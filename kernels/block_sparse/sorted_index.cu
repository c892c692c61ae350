#include <bit>

#include "kernels/block_sparse/sorted_index.hpp"
#include "kernels/cuda/flash_tile.cuh"

#ifdef __CUDACC__
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#else
#include <numeric>
#include <vector>
#endif

namespace tessera::cuda {

namespace {

constexpr int kThreads = 256;

/// Items lie as the lists of entries do: [batch, heads, seq x topk]. A query that chose fewer blocks has its
/// empty slots behind the last block.
__global__ void make_keys(MobaCall c, SortedIndex x) {
  const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (item >= index_items(c)) return;
  const std::int64_t of_head = c.seq * c.topk, both = item / of_head, query = item % of_head,
                     row = query / c.topk, slot = query % c.topk;
  const std::int64_t batch = both / c.heads, head = both % c.heads,
                     list = both * c.segments() + row / c.segment;
  const std::int32_t block = c.selected[((batch * c.seq + row) * c.heads + head) * c.topk + slot];
  x.keys[item] = static_cast<std::uint32_t>(list * (c.blocks() + 1) + (block < 0 ? c.blocks() : block));
  x.queries[item] = static_cast<std::int32_t>(query);
}

/// The first of the sorted items [first, last) that is not below `key`.
__device__ std::int64_t first_not_below(const std::uint32_t* keys, std::int64_t first, std::int64_t last,
                                        std::uint32_t key) {
  while (first < last) {
    const std::int64_t middle = (first + last) / 2;
    if (keys[middle] < key)
      first = middle + 1;
    else
      last = middle;
  }
  return first;
}

/// A thread for each list and block, and one for each list's end.
__global__ void find_offsets(MobaCall c, SortedIndex x) {
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x,
                     width = c.blocks() + 1, list = at / width, block = at % width;
  if (list >= index_lists(c)) return;
  const std::int64_t both = list / c.segments(), segment = list % c.segments();
  const std::int64_t first = (both * c.seq + segment * c.segment) * c.topk,
                     last = (both * c.seq + min((segment + 1) * c.segment, c.seq)) * c.topk;
  const std::uint32_t* const keys = x.keys + index_items(c);
  const auto key = static_cast<std::uint32_t>(at);
  const std::int64_t begin = first_not_below(keys, first, last, key);
  c.offsets[at] = static_cast<std::int32_t>(begin - first);
  x.list_of[at] = static_cast<std::int32_t>(list);
  x.tile_counts[at] = block == c.blocks()
                          ? 0
                          : static_cast<std::int32_t>(
                                tiles_of(first_not_below(keys, begin, last, key + 1) - begin, kFlashRows));
}

#ifdef __CUDACC__

/// CUB's way: asked without memory first, how much it needs.
template <class Call>
void with_temporary(const char* name, void* temporary, std::int64_t there, const Call& call) {
  std::size_t bytes = 0;
  require(call(nullptr, bytes), name);
  if (bytes > static_cast<std::size_t>(there))
    throw std::runtime_error{std::string{name} + ": CUB asks for " + std::to_string(bytes) +
                             " bytes, there are " + std::to_string(there)};
  require(call(temporary, bytes), name);
}

void sort_items(const MobaCall& c, const SortedIndex& x, int bits, Stream stream) {
  const std::int64_t items = index_items(c);
  with_temporary("DeviceRadixSort", x.temporary, index_temporary_bytes(items),
                 [&](void* at, std::size_t& bytes) {
                   return cub::DeviceRadixSort::SortPairs(at, bytes, x.keys, x.keys + items, x.queries,
                                                          c.entries, items, 0, bits, stream_of(stream));
                 });
}
void scan_tiles(const MobaCall& c, const SortedIndex& x, Stream stream) {
  const std::int64_t count = index_lists(c) * (c.blocks() + 1);
  with_temporary("DeviceScan", x.temporary, index_temporary_bytes(index_items(c)),
                 [&](void* at, std::size_t& bytes) {
                   return cub::DeviceScan::ExclusiveSumByKey(at, bytes, x.list_of, x.tile_counts, c.tiles,
                                                             static_cast<std::uint32_t>(count),
                                                             ::cuda::std::equal_to<>{}, stream_of(stream));
                 });
}

#else

// What CUB's calls do, on the host.
void sort_items(const MobaCall& c, const SortedIndex& x, int bits, Stream) {
  const auto items = static_cast<std::size_t>(index_items(c));
  const std::uint32_t mask = bits >= 32 ? ~0U : (1U << bits) - 1;
  std::vector<std::size_t> order(items);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return (x.keys[a] & mask) < (x.keys[b] & mask); });
  for (std::size_t i = 0; i < items; ++i) {
    x.keys[items + i] = x.keys[order[i]];
    c.entries[i] = x.queries[order[i]];
  }
}
void scan_tiles(const MobaCall& c, const SortedIndex& x, Stream) {
  const std::int64_t count = index_lists(c) * (c.blocks() + 1);
  std::int32_t sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (i > 0 && x.list_of[i] != x.list_of[i - 1]) sum = 0;
    c.tiles[i] = sum;
    sum += x.tile_counts[i];
  }
}

#endif

}  // namespace

void launch_sorted_index(const MobaCall& c, const SortedIndex& x, Stream stream) {
  const std::int64_t count = index_lists(c) * (c.blocks() + 1);
  if (count > (std::int64_t{1} << 31))
    throw std::invalid_argument{"sorted_index: more than 2^31 lists of blocks"};
  launch("make_keys", make_keys, {blocks_of(index_items(c), kThreads)}, {kThreads}, 0, stream, c, x);
  sort_items(c, x, std::bit_width(static_cast<std::uint64_t>(count - 1)), stream);
  launch("find_offsets", find_offsets, {blocks_of(count, kThreads)}, {kThreads}, 0, stream, c, x);
  scan_tiles(c, x, stream);
}

}  // namespace tessera::cuda
