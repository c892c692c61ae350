#pragma once
// FlashAttention's inner loop by mma.sync: 64 query rows, a warp for each 16, against key tiles of 64 that
// two stages of cp.async bring. What the rows are, and which keys they see, is the caller's.

#include "kernels/cuda/mma.cuh"

namespace tessera::cuda {

inline constexpr int kFlashRows = 64, kFlashKeys = 64, kFlashThreads = 128;
inline constexpr int kRowPad = 8;  // 16 bytes: rows begin in different banks

/// Shared memory: Q, then two stages of K and V.
template <int DQK, int DV>
struct FlashShared {
  static constexpr int kQk = DQK + kRowPad, kV = DV + kRowPad;
  static constexpr int kBytes = 2 * (kFlashRows * kQk + 2 * kFlashKeys * (kQk + kV));
  bf16* base;
  __device__ bf16* q() const { return base; }
  __device__ bf16* k(int stage) const { return base + kFlashRows * kQk + stage * kFlashKeys * (kQk + kV); }
  __device__ bf16* v(int stage) const { return k(stage) + kFlashKeys * kQk; }
};

/// One warp's 16 rows: this thread has rows lane / 4 (index 0) and lane / 4 + 8 (1) of them. Maxima are those
/// of score x scale x log2 e.
template <int DV>
struct FlashState {
  float out[DV / 8][4], max[2], sum[2];
  __device__ void clear() {
    for (int half = 0; half < 2; ++half) {
      max[half] = -INFINITY;
      sum[half] = 0;
    }
#pragma unroll
    for (int n = 0; n < DV / 8; ++n)
      for (int i = 0; i < 4; ++i) out[n][i] = 0;
  }
};

/// Brings rows of Q: `row_of(i)` is the address of row i's first element, or null for zeros.
template <int DQK, int kThreads = kFlashThreads, class RowOf>
__device__ void flash_load_rows(bf16* to, int rows, RowOf row_of) {
  constexpr int kChunks = DQK / 8;
  for (int i = static_cast<int>(threadIdx.x); i < rows * kChunks; i += kThreads) {
    const int row = i / kChunks, chunk = i % kChunks;
    const bf16* const from = row_of(row);
    copy_async(to + row * (DQK + kRowPad) + chunk * 8, from == nullptr ? nullptr : from + chunk * 8,
               from != nullptr);
  }
}

/// One tile of keys. `visible(row, key)`: indices in the tile; asked only if `masked`.
template <int DQK, int DV, class Visible>
__device__ void flash_tile(FlashState<DV>& state, const FlashShared<DQK, DV>& shared, int stage,
                           float scale_log2, bool masked, Visible visible) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  float scores[kFlashKeys / 8][4];
#pragma unroll
  for (int n = 0; n < kFlashKeys / 8; ++n)
    for (int i = 0; i < 4; ++i) scores[n][i] = 0;
#pragma unroll
  for (int d = 0; d < DQK; d += 16) {
    std::uint32_t a[4];
    load_a(a, shared.q(), FlashShared<DQK, DV>::kQk, warp * 16, d);
#pragma unroll
    for (int n = 0; n < kFlashKeys; n += 16) {
      std::uint32_t b[4];
      load_b(b, shared.k(stage), FlashShared<DQK, DV>::kQk, n, d);
      mma(scores[n / 8], a, b[0], b[1]);
      mma(scores[n / 8 + 1], a, b[2], b[3]);
    }
  }
  if (masked) {
#pragma unroll
    for (int n = 0; n < kFlashKeys / 8; ++n) {
      for (int i = 0; i < 4; ++i) {
        const Element at = mma_c(lane, i);
        if (!visible(warp * 16 + at.row, n * 8 + at.column)) scores[n][i] = -INFINITY;
      }
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float most = -INFINITY;
#pragma unroll
    for (int n = 0; n < kFlashKeys / 8; ++n)
      most = fmaxf(most, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
    most = fmaxf(state.max[half], row_max(most) * scale_log2);
    const float base = most == -INFINITY ? 0 : most;  // a row that has seen nothing yet
    const float shrink = fast_exp2(state.max[half] - base);
    state.max[half] = most;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < kFlashKeys / 8; ++n) {
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        scores[n][i] = fast_exp2(scores[n][i] * scale_log2 - base);
        sum += scores[n][i];
      }
    }
    state.sum[half] = state.sum[half] * shrink + row_sum(sum);
#pragma unroll
    for (int n = 0; n < DV / 8; ++n) {
      state.out[n][2 * half] *= shrink;
      state.out[n][2 * half + 1] *= shrink;
    }
  }
#pragma unroll
  for (int k = 0; k < kFlashKeys / 16; ++k) {
    const std::uint32_t p[4] = {
        pack(scores[2 * k][0], scores[2 * k][1]), pack(scores[2 * k][2], scores[2 * k][3]),
        pack(scores[2 * k + 1][0], scores[2 * k + 1][1]), pack(scores[2 * k + 1][2], scores[2 * k + 1][3])};
#pragma unroll
    for (int n = 0; n < DV; n += 16) {
      std::uint32_t b[4];
      load_b_transposed(b, shared.v(stage), FlashShared<DQK, DV>::kV, k * 16, n);
      mma(state.out[n / 8], p, b[0], b[1]);
      mma(state.out[n / 8 + 1], p, b[2], b[3]);
    }
  }
}

/// Key tiles [first, last), Q being on its way already (not committed). `key_row(tile, i)`, `value_row(tile,
/// i)`: addresses, or null beyond the keys. `masked(tile)`: uniform over the CTA.
template <int DQK, int DV, class KeyRow, class ValueRow, class Masked, class Visible>
__device__ void flash_loop(FlashState<DV>& state, const FlashShared<DQK, DV>& shared, int first, int last,
                           float scale_log2, KeyRow key_row, ValueRow value_row, Masked masked,
                           Visible visible) {
  const auto bring = [&](int tile) {
    const int stage = (tile - first) % 2;
    flash_load_rows<DQK>(shared.k(stage), kFlashKeys, [&](int i) { return key_row(tile, i); });
    flash_load_rows<DV>(shared.v(stage), kFlashKeys, [&](int i) { return value_row(tile, i); });
  };
  if (first < last) bring(first);
  commit_copies();
  for (int tile = first; tile < last; ++tile) {
    if (tile + 1 < last) bring(tile + 1);
    commit_copies();  // maybe of nothing: the count of groups stays the same
    wait_copies<1>();
    __syncthreads();
    flash_tile<DQK, DV>(state, shared, (tile - first) % 2, scale_log2, masked(tile),
                        [&](int row, int key) { return visible(row, tile, key); });
    __syncthreads();  // before the stage is written again
  }
  wait_copies<0>();
  __syncthreads();
}

/// Writes the 16 rows of each warp: out / sum as bf16 to `out_row(i)` (null: nothing), and gives `stats(i,
/// max, sum)` once for each row, max in units of the score x scale (natural exponent).
template <int DV, class OutRow, class Stats>
__device__ void flash_store(const FlashState<DV>& state, OutRow out_row, Stats stats) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  for (int half = 0; half < 2; ++half) {
    const int row = warp * 16 + lane / 4 + half * 8;
    const float inverse = state.sum[half] > 0 ? 1 / state.sum[half] : 0;
    bf16* const to = out_row(row);
    if (to == nullptr) continue;
#pragma unroll
    for (int n = 0; n < DV / 8; ++n)
      *reinterpret_cast<__nv_bfloat162*>(to + n * 8 + (lane % 4) * 2) =
          __floats2bfloat162_rn(state.out[n][2 * half] * inverse, state.out[n][2 * half + 1] * inverse);
    if (lane % 4 == 0) stats(row, state.max[half] * 0.6931471805599453F, state.sum[half]);
  }
}

}  // namespace tessera::cuda
