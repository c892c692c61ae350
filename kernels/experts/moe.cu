#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/experts/moe.hpp"
#include "kernels/stream/rows.hpp"

namespace tessera::cuda {

namespace {

constexpr int kThreads = 128, kGroupThreads = 512, kStride = kMoeDepth + 8;
constexpr int kBytes = 2 * 2 * (kMoeRows + kMoeColumns) * kStride;

/// A warp for each token: the lanes hold its logits, and the best one is taken topk times.
__global__ void router(RouterCall c) {
  const std::int64_t token = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32, experts = static_cast<int>(c.experts),
            topk = static_cast<int>(c.topk);
  if (token >= c.tokens) return;
  const float* const logits = c.logits + token * experts;
  float best_of_all = Most::kNone, chosen_sum = 0;
  float last = INFINITY;  // the expert taken before: all after it are below it, or equal with a higher index
  int last_id = -1;
  float mine = 0;
  for (int choice = 0; choice < topk; ++choice) {
    float best = -INFINITY;
    int id = experts;
    for (int e = lane; e < experts; e += 32) {
      const float x = logits[e];
      const bool left = x < last || (x == last && e > last_id);
      if (left && (x > best || (x == best && e < id))) {
        best = x;
        id = e;
      }
    }
    for (int step = 16; step > 0; step /= 2) {
      const float other = __shfl_xor_sync(0xffffffff, best, step);
      const int other_id = __shfl_xor_sync(0xffffffff, id, step);
      if (other > best || (other == best && other_id < id)) {
        best = other;
        id = other_id;
      }
    }
    last = best;
    last_id = id;
    if (choice == 0) best_of_all = best;
    const float e = __expf(best - best_of_all);
    chosen_sum += e;
    if (lane == choice) {
      mine = e;
      c.ids[token * topk + choice] = id;
    }
  }
  if (lane < topk) c.weights[token * topk + lane] = mine / chosen_sum;
}

/// One CTA: counts, places in whole tiles, and each row to its place.
__global__ void group(MoeCall c) {
  TESSERA_SHARED(std::int32_t, counts, kMoeMostExperts);
  const int t = static_cast<int>(threadIdx.x), experts = static_cast<int>(c.experts);
  const std::int64_t all = c.tokens * c.topk, tiles = c.most_tiles();
  for (int e = t; e < experts; e += kGroupThreads) counts[e] = 0;
  for (std::int64_t i = t; i < tiles * c.tile_rows; i += kGroupThreads) c.rows[i] = -1;
  if (c.expert != nullptr)
    for (std::int64_t i = t; i < tiles; i += kGroupThreads) c.expert[i] = -1;
  __syncthreads();
  for (std::int64_t i = t; i < all; i += kGroupThreads) atomicAdd(&counts[c.ids[i]], 1);
  __syncthreads();
  if (t == 0) {
    const auto each = static_cast<std::int32_t>(c.tile_rows);
    std::int32_t tile = 0;
    for (int e = 0; e < experts; ++e) {
      const std::int32_t used = (counts[e] + each - 1) / each;
      counts[e] = tile * each;
      if (c.expert != nullptr)
        for (std::int32_t i = 0; i < used; ++i) c.expert[tile + i] = e;
      tile += used;
    }
  }
  __syncthreads();
  for (std::int64_t i = t; i < all; i += kGroupThreads) {
    const std::int32_t place = atomicAdd(&counts[c.ids[i]], 1);
    c.rows[place] = static_cast<std::int32_t>(i);
    if (c.place != nullptr) c.place[i] = place;
  }
}

/// A CTA for each place.
__global__ void gather(MoeCall c) {
  const std::int64_t place = blockIdx.x, token = c.rows[place] / c.topk;
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * 8; i < c.hidden; i += kThreads * 8)
    store_eight(static_cast<bf16*>(c.gathered) + place * c.hidden + i,
                load_eight(static_cast<const bf16*>(c.x) + token * c.hidden + i));
}

/// out[row, n] = sum_k in[source(row), k] weights[expert, n, k] for the gathered rows of one tile; four
/// warps, 16 rows each. `per_source`: rows of `in` are tokens, topk rows of `out` to each.
__global__ void __launch_bounds__(kThreads)
    grouped_product(const std::int32_t* rows, const std::int32_t* expert_of, const bf16* in,
                    const bf16* weights, bf16* out, std::int64_t width, std::int64_t depth, int per_source) {
  TESSERA_DYNAMIC_SHARED(memory);
  TESSERA_SHARED(std::int32_t, row_of, kMoeRows);
  const auto tile_a = [&](int stage) {
    return reinterpret_cast<bf16*>(memory) + stage * (kMoeRows + kMoeColumns) * kStride;
  };
  const auto tile_b = [&](int stage) { return tile_a(stage) + kMoeRows * kStride; };
  // Along one dimension of the grid, the only one that takes more than 65,535: columns within tiles of rows.
  const unsigned columns = static_cast<unsigned>(width) / kMoeColumns, tile = blockIdx.x / columns;
  const int expert = expert_of[tile], t = static_cast<int>(threadIdx.x), warp = t / 32, lane = t % 32;
  if (expert < 0) return;
  const std::int64_t first_column = blockIdx.x % columns * kMoeColumns;
  if (t < kMoeRows) row_of[t] = rows[std::int64_t{tile} * kMoeRows + t];
  __syncthreads();
  const bf16* const b = weights + (expert * width + first_column) * depth;
  const auto bring = [&](std::int64_t k, int stage) {
    for (int i = t; i < (kMoeRows + kMoeColumns) * (kMoeDepth / 8); i += kThreads) {
      const int row = i / (kMoeDepth / 8), at = i % (kMoeDepth / 8) * 8;
      if (row < kMoeRows) {
        bf16* const to = tile_a(stage) + row * kStride + at;
        copy_async(to, in + row_of[row] / per_source * depth + k + at, row_of[row] >= 0);
      } else {
        const int n = row - kMoeRows;
        copy_async(tile_b(stage) + n * kStride + at, b + n * depth + k + at, true);
      }
    }
  };
  float sums[kMoeColumns / 8][4] = {};
  bring(0, 0);
  commit_copies();
  int stage = 0;
  for (std::int64_t k = 0; k < depth; k += kMoeDepth) {
    if (k + kMoeDepth < depth) bring(k + kMoeDepth, 1 - stage);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kMoeDepth; d += 16) {
      std::uint32_t a[4];
      load_a(a, tile_a(stage), kStride, warp * 16, d);
#pragma unroll
      for (int n = 0; n < kMoeColumns; n += 16) {
        std::uint32_t two[4];
        load_b(two, tile_b(stage), kStride, n, d);
        mma(sums[n / 8], a, two[0], two[1]);
        mma(sums[n / 8 + 1], a, two[2], two[3]);
      }
    }
    __syncthreads();
    stage = 1 - stage;
  }
  wait_copies<0>();
  for (int half = 0; half < 2; ++half) {
    const std::int32_t row = row_of[warp * 16 + lane / 4 + half * 8];
    if (row < 0) continue;
    bf16* const to = out + row * width + first_column + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kMoeColumns / 8; ++n)
      *reinterpret_cast<__nv_bfloat162*>(to + n * 8) =
          __floats2bfloat162_rn(sums[n][2 * half], sums[n][2 * half + 1]);
  }
}

__global__ void grouped_addresses(GroupedAddresses c) {
  auto* const at = static_cast<const void**>(c.addresses);
  for (std::int64_t g = threadIdx.x; g < c.groups; g += kThreads) {
    const std::int64_t expert = c.listed[g], first = c.listed[c.groups + g];
    at[g] = static_cast<const bf16*>(c.weights) + expert * c.width * c.depth;
    at[c.groups + g] = static_cast<const bf16*>(c.in) + first * c.depth;
    at[2 * c.groups + g] = static_cast<const bf16*>(c.out) + first * c.width;
  }
}

/// A CTA for each token.
__global__ void weighted_sum(MoeCall c) {
  const std::int64_t token = blockIdx.x;
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * 8; i < c.hidden; i += 256 * 8) {
    float sum[8] = {};
    for (std::int64_t choice = 0; choice < c.topk; ++choice) {
      const std::int64_t row = token * c.topk + choice, at = c.place != nullptr ? c.place[row] : row;
      const Eight x = load_eight(static_cast<const bf16*>(c.results) + at * c.hidden + i);
      const float weight = c.weights[row];
      for (int j = 0; j < 8; ++j) sum[j] += weight * x.get(j);
    }
    Eight y{};
    for (int j = 0; j < 8; ++j) y.set(j, sum[j]);
    store_eight(static_cast<bf16*>(c.out) + token * c.hidden + i, y);
  }
}

void product(const MoeCall& c, const void* in, const void* weights, void* out, std::int64_t width,
             std::int64_t depth, int per_source, Stream stream) {
  launch("grouped_product", grouped_product, {static_cast<unsigned>(width / kMoeColumns * c.most_tiles())},
         {kThreads}, kBytes, stream, c.rows, c.expert, static_cast<const bf16*>(in),
         static_cast<const bf16*>(weights), static_cast<bf16*>(out), width, depth, per_source);
}

}  // namespace

void launch_router(const RouterCall& c, Stream stream) {
  launch("router", router, {blocks_of(c.tokens, 4)}, {128}, 0, stream, c);
}
void launch_moe_group(const MoeCall& c, Stream stream) {
  launch("group", group, {1}, {kGroupThreads}, 0, stream, c);
}
void launch_moe_up(const MoeCall& c, Stream stream) {
  product(c, c.x, c.up, c.gate_up, 2 * c.intermediate, c.hidden, static_cast<int>(c.topk), stream);
}
void launch_moe_activation(const MoeCall& c, Stream stream) {
  launch_activation(c.gate_up, c.active, c.tokens * c.topk, c.intermediate, true, stream);
}
void launch_moe_down(const MoeCall& c, Stream stream) {
  product(c, c.active, c.down, c.results, c.hidden, c.intermediate, 1, stream);
}
void launch_grouped_addresses(const GroupedAddresses& c, Stream stream) {
  launch("grouped_addresses", grouped_addresses, {1}, {kThreads}, 0, stream, c);
}
void launch_moe_gather(const MoeCall& c, Stream stream) {
  launch("gather", gather, {static_cast<unsigned>(c.tokens * c.topk)}, {kThreads}, 0, stream, c);
}
void launch_moe_sum(const MoeCall& c, Stream stream) {
  launch("weighted_sum", weighted_sum, {static_cast<unsigned>(c.tokens)}, {256}, 0, stream, c);
}

}  // namespace tessera::cuda
