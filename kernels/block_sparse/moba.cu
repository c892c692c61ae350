#include "kernels/attention_decode/split_kv.hpp"
#include "kernels/block_sparse/moba.hpp"
#include "kernels/cuda/flash_tile.cuh"

namespace tessera::cuda {

namespace {

constexpr int kPoolThreads = 256, kGateRows = 128, kGateBlocks = 16, kIndexThreads = 512;

/// A CTA for each block and key head: threads side by side along head_dim, groups of them along the keys.
__global__ void mean_pool(MobaCall c) {
  TESSERA_SHARED(float, sums, kPoolThreads);
  const int dim = static_cast<int>(c.head_dim), t = static_cast<int>(threadIdx.x), d = t % dim,
            part = t / dim;
  const std::int64_t block = blockIdx.x, head = blockIdx.y, batch = blockIdx.z;
  const std::int64_t first = block * c.block, end = min(first + c.block, c.seq);
  const bf16* const k = static_cast<const bf16*>(c.k) + (batch * c.seq * c.kv_heads + head) * dim + d;
  float sum = 0;
  for (std::int64_t row = first + part; row < end; row += kPoolThreads / dim)
    sum += static_cast<float>(k[row * c.kv_heads * dim]);
  sums[t] = sum;
  __syncthreads();
  if (part != 0) return;
  for (int p = 1; p < kPoolThreads / dim; ++p) sum += sums[p * dim + d];
  c.means[((batch * c.blocks() + block) * c.kv_heads + head) * dim + d] =
      sum / static_cast<float>(end - first);
}

/// A thread for each query: its row in registers, the means of a few blocks in shared memory at a time, the
/// best ones in a sorted list in registers. fp32, so that only true ties depend on rounding.
template <int D>
__global__ void __launch_bounds__(kGateRows) gate_topk(MobaCall c) {
  TESSERA_SHARED(float4, means, kGateBlocks * D / 4);
  const int head = static_cast<int>(blockIdx.y), kv_head = head / static_cast<int>(c.heads / c.kv_heads);
  const std::int64_t batch = blockIdx.z, first_row = static_cast<std::int64_t>(blockIdx.x) * kGateRows,
                     row = first_row + threadIdx.x;
  const bool there = row < c.seq;
  const std::int64_t at = (batch * c.seq + (there ? row : 0)) * c.heads + head;
  const int own = there ? static_cast<int>(row / c.block) : 0, chosen = static_cast<int>(c.topk) - 1;
  const std::int64_t last_row = min(first_row + kGateRows, c.seq) - 1;
  const int past = static_cast<int>(last_row / c.block);  // blocks before the last row's own

  float q[D];
  const bf16* const q_row = static_cast<const bf16*>(c.q) + at * D;
#pragma unroll
  for (int d = 0; d < D; ++d) q[d] = static_cast<float>(q_row[d]);
  float best[kMobaMostTopk - 1];
  int which[kMobaMostTopk - 1];
#pragma unroll
  for (int i = 0; i < kMobaMostTopk - 1; ++i) {
    best[i] = -INFINITY;
    which[i] = -1;
  }
  for (int base = 0; base < past; base += kGateBlocks) {
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kGateBlocks * D / 4; i += kGateRows) {
      const std::int64_t block = base + i / (D / 4);
      means[i] = block < past
                     ? reinterpret_cast<const float4*>(
                           c.means + ((batch * c.blocks() + block) * c.kv_heads + kv_head) * D)[i % (D / 4)]
                     : make_float4(0, 0, 0, 0);
    }
    __syncthreads();
    for (int b = 0; b < kGateBlocks && base + b < own; ++b) {
      float score = 0;
#pragma unroll
      for (int d = 0; d < D / 4; ++d) {
        const float4 mean = means[b * (D / 4) + d];
        score += q[4 * d] * mean.x + q[4 * d + 1] * mean.y + q[4 * d + 2] * mean.z + q[4 * d + 3] * mean.w;
      }
      int block = base + b;
      // Insertion: the first of equal scores stays ahead. Entries beyond `chosen` are never looked at.
#pragma unroll
      for (int i = 0; i < kMobaMostTopk - 1; ++i) {
        if (i >= chosen || score <= best[i]) continue;
        const float worse = best[i];
        const int worse_block = which[i];
        best[i] = score;
        which[i] = block;
        score = worse;
        block = worse_block;
      }
    }
  }
  if (!there) return;
  c.selected[at * c.topk] = own;
#pragma unroll
  for (int i = 0; i < kMobaMostTopk - 1; ++i)
    if (i < chosen) c.selected[at * c.topk + 1 + i] = which[i];
}

/// A CTA for each segment: counts, running sums, then every query to its place. The order within a block's
/// list does not matter: each entry's result is its own.
__global__ void index_build(MobaCall c) {
  TESSERA_DYNAMIC_SHARED(memory);
  std::int32_t* const counts = reinterpret_cast<std::int32_t*>(memory);
  const int blocks = static_cast<int>(c.blocks()), topk = static_cast<int>(c.topk),
            t = static_cast<int>(threadIdx.x);
  const std::int64_t segment = blockIdx.x, head = blockIdx.y, batch = blockIdx.z;
  const std::int64_t first = segment * c.segment, rows = min(c.segment, c.seq - first);
  const auto selected = [&](std::int64_t item) {
    const std::int64_t row = first + item / topk;
    return c.selected[((batch * c.seq + row) * c.heads + head) * topk + item % topk];
  };
  for (int b = t; b < blocks; b += kIndexThreads) counts[b] = 0;
  __syncthreads();
  for (std::int64_t i = t; i < rows * topk; i += kIndexThreads) {
    const std::int32_t block = selected(i);
    if (block >= 0) atomicAdd(&counts[block], 1);
  }
  __syncthreads();
  const std::int64_t list = ((batch * c.heads + head) * c.segments() + segment) * (blocks + 1);
  if (t == 0) {
    std::int32_t items = 0, tiles = 0;
    for (int b = 0; b < blocks; ++b) {
      c.offsets[list + b] = items;
      c.tiles[list + b] = tiles;
      const std::int32_t count = counts[b];
      counts[b] = items;  // from here on the next free place
      items += count;
      tiles += (count + kFlashRows - 1) / kFlashRows;
    }
    c.offsets[list + blocks] = items;
    c.tiles[list + blocks] = tiles;
  }
  __syncthreads();
  std::int32_t* const entries = c.entries + ((batch * c.heads + head) * c.seq + first) * topk;
  for (std::int64_t i = t; i < rows * topk; i += kIndexThreads) {
    const std::int32_t block = selected(i);
    if (block >= 0) entries[atomicAdd(&counts[block], 1)] = static_cast<std::int32_t>(first * topk + i);
  }
}

/// Up to 64 gathered queries against one block of keys.
template <int D>
struct Gathered {
  const MobaCall& c;
  FlashShared<D, D> shared;
  std::int32_t* entries;  ///< [64], in shared memory; -1 beyond the list
  std::int64_t batch;
  int head, block;

  /// Takes entries [first, end) of the segment's list and starts Q on its way.
  __device__ void gather(const std::int32_t* list, int first, int end) const {
    if (threadIdx.x < kFlashRows)
      entries[threadIdx.x] =
          first + static_cast<int>(threadIdx.x) < end ? list[first + static_cast<int>(threadIdx.x)] : -1;
    __syncthreads();
    flash_load_rows<D>(shared.q(), kFlashRows, [&](int i) -> const bf16* {
      return entries[i] < 0 ? nullptr : static_cast<const bf16*>(c.q) + row_at(i) * D;
    });
  }
  __device__ int row(int i) const { return entries[i] / static_cast<int>(c.topk); }
  __device__ int slot(int i) const { return entries[i] % static_cast<int>(c.topk); }
  /// Of [batch, seq, heads].
  __device__ std::int64_t row_at(int i) const { return (batch * c.seq + row(i)) * c.heads + head; }

  __device__ void attend(FlashState<D>& state) const {
    const int first_key = block * static_cast<int>(c.block),
              end_key = min(first_key + static_cast<int>(c.block), static_cast<int>(c.seq));
    bool own = false;  // some query is of the block itself
    for (int i = 0; i < kFlashRows; ++i) own |= entries[i] >= 0 && slot(i) == 0;
    const std::int64_t width = c.kv_heads * D,
                       base = batch * c.seq * width + (head / (c.heads / c.kv_heads)) * D;
    const auto key_row = [&](const void* of, int tile, int i) -> const bf16* {
      const int key = first_key + tile * kFlashKeys + i;
      return key < end_key ? static_cast<const bf16*>(of) + base + key * width : nullptr;
    };
    flash_loop<D, D>(
        state, shared, 0, (end_key - first_key + kFlashKeys - 1) / kFlashKeys,
        rsqrtf(static_cast<float>(D)) * 1.4426950408889634F,
        [&](int tile, int i) { return key_row(c.k, tile, i); },
        [&](int tile, int i) { return key_row(c.v, tile, i); },
        [&](int tile) { return own || first_key + (tile + 1) * kFlashKeys > end_key; },
        [&](int i, int tile, int key) {
          const int at = first_key + tile * kFlashKeys + key;
          return at < end_key && entries[i] >= 0 && at <= row(i);
        });
  }
};

template <int D>
__global__ void __launch_bounds__(kFlashThreads) gathered_attention(MobaCall c) {
  TESSERA_DYNAMIC_SHARED(memory);
  TESSERA_SHARED(std::int32_t, entries, kFlashRows);
  const int head = static_cast<int>(blockIdx.y), blocks = static_cast<int>(c.blocks()),
            tile = static_cast<int>(blockIdx.x);
  const std::int64_t batch = blockIdx.z, list = (batch * c.heads + head) * (blocks + 1);
  if (tile >= c.tiles[list + blocks]) return;
  // Where blocks have no tile several offsets are equal, and the last of them has it.
  const int block = block_of_item(c.tiles + list, blocks, tile);
  const Gathered<D> queries{c, {reinterpret_cast<bf16*>(memory)}, entries, batch, head, block};
  FlashState<D> state;
  state.clear();
  queries.gather(c.entries + (batch * c.heads + head) * c.seq * c.topk,
                 c.offsets[list + block] + (tile - c.tiles[list + block]) * kFlashRows,
                 c.offsets[list + block + 1]);
  queries.attend(state);
  const std::int64_t rows = c.batch * c.seq * c.heads;
  flash_store<D>(
      state,
      [&](int i) -> bf16* {
        if (entries[i] < 0) return nullptr;
        return static_cast<bf16*>(c.parts_out) + (queries.slot(i) * rows + queries.row_at(i)) * D;
      },
      [&](int i, float max, float sum) {
        c.max[queries.slot(i) * rows + queries.row_at(i)] = max;
        c.expsum[queries.slot(i) * rows + queries.row_at(i)] = sum;
      });
}

/// The blocks of a segment from the last to the first, so that a query meets its own block first. What a
/// query has so far lies in global memory; only this CTA touches it.
template <int D>
__global__ void __launch_bounds__(kFlashThreads, D == 64 ? 3 : 2) fused_gather(MobaCall c) {
  TESSERA_DYNAMIC_SHARED(memory);
  TESSERA_SHARED(std::int32_t, entries, kFlashRows);
  const int head = static_cast<int>(blockIdx.y), blocks = static_cast<int>(c.blocks());
  const std::int64_t batch = blockIdx.z, segment = gridDim.x - 1 - blockIdx.x;
  const std::int64_t list = ((batch * c.heads + head) * c.segments() + segment) * (blocks + 1),
                     first_row = segment * c.segment;
  const std::int32_t* const items = c.entries + ((batch * c.heads + head) * c.seq + first_row) * c.topk;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  for (int block = blocks - 1; block >= 0; --block) {
    const int end = c.offsets[list + block + 1];
    for (int first = c.offsets[list + block]; first < end; first += kFlashRows) {
      const Gathered<D> queries{c, {reinterpret_cast<bf16*>(memory)}, entries, batch, head, block};
      __syncthreads();  // the entries of the tile before are still read
      queries.gather(items, first, end);
      FlashState<D> state;
      state.clear();
      for (int half = 0; half < 2; ++half) {
        const int i = warp * 16 + lane / 4 + half * 8;
        if (entries[i] < 0 || queries.slot(i) == 0) continue;
        const std::int64_t at = queries.row_at(i);
        state.max[half] = c.max[at];
        state.sum[half] = c.expsum[at];
#pragma unroll
        for (int n = 0; n < D / 8; ++n)
          for (int j = 0; j < 2; ++j) state.out[n][2 * half + j] = c.state[at * D + n * 8 + lane % 4 * 2 + j];
      }
      queries.attend(state);
      for (int half = 0; half < 2; ++half) {
        const int i = warp * 16 + lane / 4 + half * 8;
        if (entries[i] < 0) continue;
        const std::int64_t at = queries.row_at(i);
#pragma unroll
        for (int n = 0; n < D / 8; ++n)
          for (int j = 0; j < 2; ++j) c.state[at * D + n * 8 + lane % 4 * 2 + j] = state.out[n][2 * half + j];
        if (lane % 4 == 0) {
          c.max[at] = state.max[half];
          c.expsum[at] = state.sum[half];
        }
      }
    }
  }
  __syncthreads();
  const std::int64_t rows = min(c.segment, c.seq - first_row);
  for (std::int64_t i = threadIdx.x; i < rows * D; i += kFlashThreads) {
    const std::int64_t at = (batch * c.seq + first_row + i / D) * c.heads + head;
    static_cast<bf16*>(c.out)[at * D + i % D] = bf16{c.state[at * D + i % D] / c.expsum[at]};
  }
}

unsigned to_unsigned(std::int64_t x) { return static_cast<unsigned>(x); }

void require_taken(const MobaCall& c) {
  if ((c.head_dim != 64 && c.head_dim != 128) || c.block % 64 != 0 || c.topk > kMobaMostTopk ||
      c.blocks() > kMobaMostBlocks)
    throw std::invalid_argument{
        "moba: heads of 64 or 128, blocks a multiple of 64 and at most 8192 of them, topk at most 16"};
}

}  // namespace

void launch_mean_pool(const MobaCall& c, Stream stream) {
  require_taken(c);
  launch("mean_pool", mean_pool, {to_unsigned(c.blocks()), to_unsigned(c.kv_heads), to_unsigned(c.batch)},
         {kPoolThreads}, 0, stream, c);
}
void launch_gate_topk(const MobaCall& c, Stream stream) {
  require_taken(c);
  const dim3 grid{blocks_of(c.seq, kGateRows), to_unsigned(c.heads), to_unsigned(c.batch)};
  launch("gate_topk", c.head_dim == 64 ? gate_topk<64> : gate_topk<128>, grid, {kGateRows}, 0, stream, c);
}
void launch_index_build(const MobaCall& c, Stream stream) {
  launch("index_build", index_build, {to_unsigned(c.segments()), to_unsigned(c.heads), to_unsigned(c.batch)},
         {kIndexThreads}, static_cast<int>(c.blocks()) * 4, stream, c);
}
void launch_gathered_attention(const MobaCall& c, Stream stream) {
  set_bytes(c.expsum, 0, c.topk * c.batch * c.seq * c.heads * 4, stream);  // slots that no block fills
  const dim3 grid{to_unsigned(c.most_tiles()), to_unsigned(c.heads), to_unsigned(c.batch)};
  if (c.head_dim == 64)
    launch("gathered_attention", gathered_attention<64>, grid, {kFlashThreads}, FlashShared<64, 64>::kBytes,
           stream, c);
  else
    launch("gathered_attention", gathered_attention<128>, grid, {kFlashThreads},
           FlashShared<128, 128>::kBytes, stream, c);
}
void launch_moba_merge(const MobaCall& c, Stream stream) {
  launch_merge({.parts_out = c.parts_out,
                .max = c.max,
                .expsum = c.expsum,
                .out = c.out,
                .rows = c.batch * c.seq,
                .heads = c.heads,
                .head_dim = c.head_dim,
                .parts = c.topk},
               stream);
}
void launch_fused_gather(const MobaCall& c, Stream stream) {
  const dim3 grid{to_unsigned(c.segments()), to_unsigned(c.heads), to_unsigned(c.batch)};
  if (c.head_dim == 64)
    launch("fused_gather", fused_gather<64>, grid, {kFlashThreads}, FlashShared<64, 64>::kBytes, stream, c);
  else
    launch("fused_gather", fused_gather<128>, grid, {kFlashThreads}, FlashShared<128, 128>::kBytes, stream,
           c);
}

}  // namespace tessera::cuda
