#include "kernels/attention_decode/split_kv.hpp"
#include "kernels/cuda/flash_tile.cuh"
#include "kernels/latent/mla_decode.hpp"

namespace tessera::cuda {

namespace {

constexpr int kLatent = static_cast<int>(kMlaLatent), kRope = static_cast<int>(kMlaRope),
              kWidth = kLatent + kRope;
constexpr int kHeads = 64, kKeys = static_cast<int>(kMlaKeys), kThreads = 256, kStride = kWidth + kRowPad;
constexpr int kColumns = kLatent / 2;  // of the output, for a warp
constexpr int kBytes = 2 * (kHeads + 2 * kKeys) * kStride;

/// 64 heads of a sequence against a share of its cache. Eight warps: 16 heads and half of the latent columns
/// each; the two that share heads both score them.
__global__ void __launch_bounds__(kThreads) mla_decode(MlaDecodeCall c) {
  TESSERA_DYNAMIC_SHARED(memory);
  bf16* const q = reinterpret_cast<bf16*>(memory);
  const auto key_tile = [&](int stage) { return q + (kHeads + stage * kKeys) * kStride; };
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int row0 = warp % 4 * 16, column0 = warp / 4 * kColumns;
  const int heads = static_cast<int>(c.heads), first_head = static_cast<int>(blockIdx.y) * kHeads,
            context = static_cast<int>(c.context);
  const std::int64_t split = blockIdx.x, batch = blockIdx.z;
  const TileRange tiles = split_of(tiles_of(context, kKeys), c.splits, split);
  const int begin = static_cast<int>(tiles.begin), end = static_cast<int>(tiles.end);

  constexpr int kChunks = kWidth / 8;
  for (int i = static_cast<int>(threadIdx.x); i < kHeads * kChunks; i += kThreads) {
    const int row = i / kChunks, at = i % kChunks * 8;
    const std::int64_t head = batch * heads + first_head + row;
    const bool there = first_head + row < heads;
    const bf16* const from = at < kLatent ? static_cast<const bf16*>(c.q_latent) + head * kLatent + at
                                          : static_cast<const bf16*>(c.q_rope) + head * kRope + at - kLatent;
    bf16* const to = q + row * kStride + at;
    copy_async(to, from, there);
  }
  const auto bring = [&](int tile, int stage) {
    flash_load_rows<kWidth, kThreads>(key_tile(stage), kKeys, [&](int i) -> const bf16* {
      const int row = tile * kKeys + i;
      return row < context ? static_cast<const bf16*>(c.cache) + (batch * context + row) * kWidth : nullptr;
    });
  };

  FlashState<kColumns> state;
  state.clear();
  const float scale_log2 = c.scale * 1.4426950408889634F;
  if (begin < end) bring(begin, 0);
  commit_copies();
  for (int tile = begin; tile < end; ++tile) {
    const int stage = (tile - begin) % 2;
    if (tile + 1 < end) bring(tile + 1, 1 - stage);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    float scores[kKeys / 8][4] = {};
#pragma unroll 4
    for (int d = 0; d < kWidth; d += 16) {
      std::uint32_t a[4];
      load_a(a, q, kStride, row0, d);
#pragma unroll
      for (int n = 0; n < kKeys; n += 16) {
        std::uint32_t b[4];
        load_b(b, key_tile(stage), kStride, n, d);
        mma(scores[n / 8], a, b[0], b[1]);
        mma(scores[n / 8 + 1], a, b[2], b[3]);
      }
    }
    for (int n = 0; n < kKeys / 8; ++n)
      for (int i = 0; i < 4; ++i)
        if (tile * kKeys + n * 8 + mma_c(lane, i).column >= context) scores[n][i] = -INFINITY;
    for (int half = 0; half < 2; ++half) {
      float most = -INFINITY;
      for (int n = 0; n < kKeys / 8; ++n)
        most = fmaxf(most, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
      most = fmaxf(state.max[half], row_max(most) * scale_log2);
      const float floor = most == -INFINITY ? 0 : most;
      const float shrink = fast_exp2(state.max[half] - floor);
      state.max[half] = most;
      float sum = 0;
      for (int n = 0; n < kKeys / 8; ++n) {
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          scores[n][i] = fast_exp2(scores[n][i] * scale_log2 - floor);
          sum += scores[n][i];
        }
      }
      state.sum[half] = state.sum[half] * shrink + row_sum(sum);
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
        state.out[n][2 * half] *= shrink;
        state.out[n][2 * half + 1] *= shrink;
      }
    }
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      const std::uint32_t p[4] = {
          pack(scores[2 * k][0], scores[2 * k][1]), pack(scores[2 * k][2], scores[2 * k][3]),
          pack(scores[2 * k + 1][0], scores[2 * k + 1][1]), pack(scores[2 * k + 1][2], scores[2 * k + 1][3])};
#pragma unroll
      for (int n = 0; n < kColumns; n += 16) {
        std::uint32_t b[4];
        load_b_transposed(b, key_tile(stage), kStride, k * 16, column0 + n);
        mma(state.out[n / 8], p, b[0], b[1]);
        mma(state.out[n / 8 + 1], p, b[2], b[3]);
      }
    }
    __syncthreads();
  }
  wait_copies<0>();

  for (int half = 0; half < 2; ++half) {
    const int head = first_head + row0 + lane / 4 + half * 8;
    if (head >= heads) continue;
    const std::int64_t part = (split * c.batch + batch) * heads + head;
    const float inverse = state.sum[half] > 0 ? 1 / state.sum[half] : 0;
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n)
      for (int i = 0; i < 2; ++i)
        c.part_out[part * kLatent + column0 + n * 8 + lane % 4 * 2 + i] =
            state.out[n][2 * half + i] * inverse;
    if (column0 == 0 && lane % 4 == 0) {
      c.part_max[part] = state.max[half] * 0.6931471805599453F;
      c.part_sum[part] = state.sum[half];
    }
  }
}

}  // namespace

void launch_mla_decode(const MlaDecodeCall& c, Stream stream) {
  launch("mla_decode", mla_decode,
         {static_cast<unsigned>(c.splits), blocks_of(c.heads, kHeads), static_cast<unsigned>(c.batch)},
         {kThreads}, kBytes, stream, c);
}
void launch_mla_combine(const MlaDecodeCall& c, Stream stream) {
  launch_combine({.out = c.out,
                  .part_out = c.part_out,
                  .part_max = c.part_max,
                  .part_sum = c.part_sum,
                  .batch = c.batch,
                  .heads = c.heads,
                  .head_dim = kMlaLatent,
                  .splits = c.splits},
                 stream);
}

}  // namespace tessera::cuda
