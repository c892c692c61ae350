#include "kernels/attention_decode/split_kv.hpp"
#include "kernels/cuda/flash_tile.cuh"

namespace tessera::cuda {

namespace {

constexpr int kRows = 16, kWarps = 4, kKeys = static_cast<int>(kDecodeKeys), kWarpKeys = kKeys / kWarps;

template <int D>
struct DecodeShared {
  static constexpr int kStride = D + kRowPad;
  static constexpr int kBytes = 2 * (kRows + 4 * kKeys) * kStride;
  static_assert(kBytes >= 4 * kWarps * kRows * (D + 2), "the warps' results take the keys' place");
};

/// Each warp takes its 16 keys of every tile of 64, with a maximum and sum of its own.
template <int D>
__global__ void __launch_bounds__(kFlashThreads) split_kv(DecodeCall c) {
  TESSERA_DYNAMIC_SHARED(memory);
  constexpr int kStride = DecodeShared<D>::kStride;
  bf16* const q = reinterpret_cast<bf16*>(memory);
  const auto key_tile = [&](int stage) { return q + (kRows + stage * 2 * kKeys) * kStride; };
  const auto value_tile = [&](int stage) { return key_tile(stage) + kKeys * kStride; };
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int heads = static_cast<int>(c.heads), kv_heads = static_cast<int>(c.kv_heads),
            group = heads / kv_heads;
  const int groups = (group + kRows - 1) / kRows, split = static_cast<int>(blockIdx.x) / groups;
  const int first_head = (static_cast<int>(blockIdx.x) % groups) * kRows,
            kv_head = static_cast<int>(blockIdx.y);
  const auto batch = static_cast<std::int64_t>(blockIdx.z);
  const int context = static_cast<int>(c.context);
  const TileRange tiles = split_of(tiles_of(context, kKeys), c.splits, split);

  const bf16* const q_rows =
      static_cast<const bf16*>(c.q) + (batch * heads + kv_head * group + first_head) * D;
  flash_load_rows<D>(q, kRows,
                     [&](int i) -> const bf16* { return first_head + i < group ? q_rows + i * D : nullptr; });
  const std::int64_t row_elements = static_cast<std::int64_t>(kv_heads) * D,
                     base = batch * context * row_elements + kv_head * D;
  const auto bring = [&](int tile, int stage) {
    const auto row_of = [&](const void* of) {
      return [=](int i) -> const bf16* {
        const std::int64_t row = static_cast<std::int64_t>(tile) * kKeys + i;
        return row < context ? static_cast<const bf16*>(of) + base + row * row_elements : nullptr;
      };
    };
    flash_load_rows<D>(key_tile(stage), kKeys, row_of(c.k));
    flash_load_rows<D>(value_tile(stage), kKeys, row_of(c.v));
  };

  FlashState<D> state;
  state.clear();
  const float scale_log2 = rsqrtf(static_cast<float>(D)) * 1.4426950408889634F;
  const int begin = static_cast<int>(tiles.begin), end = static_cast<int>(tiles.end);
  if (begin < end) bring(begin, 0);
  commit_copies();
  for (int tile = begin; tile < end; ++tile) {
    const int stage = (tile - begin) % 2;
    if (tile + 1 < end) bring(tile + 1, 1 - stage);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    float scores[2][4] = {};
#pragma unroll
    for (int d = 0; d < D; d += 16) {
      std::uint32_t a[4], b[4];
      load_a(a, q, kStride, 0, d);
      load_b(b, key_tile(stage), kStride, warp * kWarpKeys, d);
      mma(scores[0], a, b[0], b[1]);
      mma(scores[1], a, b[2], b[3]);
    }
    for (int n = 0; n < 2; ++n) {
      for (int i = 0; i < 4; ++i) {
        const int key = tile * kKeys + warp * kWarpKeys + n * 8 + mma_c(lane, i).column;
        if (key >= context) scores[n][i] = -INFINITY;
      }
    }
    for (int half = 0; half < 2; ++half) {
      float most = fmaxf(fmaxf(scores[0][2 * half], scores[0][2 * half + 1]),
                         fmaxf(scores[1][2 * half], scores[1][2 * half + 1]));
      most = fmaxf(state.max[half], row_max(most) * scale_log2);
      const float floor = most == -INFINITY ? 0 : most;
      const float shrink = fast_exp2(state.max[half] - floor);
      state.max[half] = most;
      float sum = 0;
      for (int n = 0; n < 2; ++n) {
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          scores[n][i] = fast_exp2(scores[n][i] * scale_log2 - floor);
          sum += scores[n][i];
        }
      }
      state.sum[half] = state.sum[half] * shrink + row_sum(sum);
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        state.out[n][2 * half] *= shrink;
        state.out[n][2 * half + 1] *= shrink;
      }
    }
    const std::uint32_t p[4] = {pack(scores[0][0], scores[0][1]), pack(scores[0][2], scores[0][3]),
                                pack(scores[1][0], scores[1][1]), pack(scores[1][2], scores[1][3])};
#pragma unroll
    for (int n = 0; n < D; n += 16) {
      std::uint32_t b[4];
      load_b_transposed(b, value_tile(stage), kStride, warp * kWarpKeys, n);
      mma(state.out[n / 8], p, b[0], b[1]);
      mma(state.out[n / 8 + 1], p, b[2], b[3]);
    }
    __syncthreads();
  }
  wait_copies<0>();
  __syncthreads();

  // The warps' results, side by side: out [warp][row][D], then max and sum [warp][row].
  float* const all = reinterpret_cast<float*>(memory);
  float *const maxima = all + kWarps * kRows * D, *const sums = maxima + kWarps * kRows;
  for (int half = 0; half < 2; ++half) {
    const int row = lane / 4 + half * 8;
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
      for (int i = 0; i < 2; ++i)
        all[(warp * kRows + row) * D + n * 8 + lane % 4 * 2 + i] = state.out[n][2 * half + i];
    if (lane % 4 == 0) {
      maxima[warp * kRows + row] = state.max[half];
      sums[warp * kRows + row] = state.sum[half];
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kRows * D; i += kFlashThreads) {
    const int row = i / D, d = i % D;
    if (first_head + row >= group) continue;
    float most = -INFINITY, sum = 0, out = 0;
    for (int w = 0; w < kWarps; ++w) most = fmaxf(most, maxima[w * kRows + row]);
    for (int w = 0; w < kWarps; ++w) {
      const float weight =
          maxima[w * kRows + row] == -INFINITY ? 0 : fast_exp2(maxima[w * kRows + row] - most);
      sum += weight * sums[w * kRows + row];
      out += weight * all[(w * kRows + row) * D + d];
    }
    out = sum > 0 ? out / sum : 0;
    const std::int64_t at = batch * heads + kv_head * group + first_head + row;
    if (c.splits == 1) {
      static_cast<bf16*>(c.out)[at * D + d] = bf16{out};
      continue;
    }
    const std::int64_t part = split * c.batch * heads + at;
    c.part_out[part * D + d] = out;
    if (d == 0) {
      c.part_max[part] = most * 0.6931471805599453F;
      c.part_sum[part] = sum;
    }
  }
}

/// A warp for each row and head.
template <class Part>
__global__ void merge(const Part* parts_out, const float* max, const float* expsum, bf16* out,
                      std::int64_t rows, int head_dim, int parts) {
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (row >= rows) return;
  float most = -INFINITY;
  for (int p = 0; p < parts; ++p)
    if (expsum[p * rows + row] > 0) most = fmaxf(most, max[p * rows + row]);
  float sum = 0;
  for (int p = 0; p < parts; ++p) {
    const float e = expsum[p * rows + row];
    if (e > 0) sum += e * __expf(max[p * rows + row] - most);
  }
  for (int d = lane; d < head_dim; d += 32) {
    float value = 0;
    for (int p = 0; p < parts; ++p) {
      const float e = expsum[p * rows + row];
      if (e > 0)
        value += e * __expf(max[p * rows + row] - most) *
                 static_cast<float>(parts_out[(p * rows + row) * head_dim + d]);
    }
    out[row * head_dim + d] = bf16{sum > 0 ? value / sum : 0};
  }
}

template <int D>
void start(const DecodeCall& c, Stream stream) {
  const std::int64_t groups = tiles_of(c.heads / c.kv_heads, kRows);
  launch("split_kv", split_kv<D>,
         {static_cast<unsigned>(c.splits * groups), static_cast<unsigned>(c.kv_heads),
          static_cast<unsigned>(c.batch)},
         {kFlashThreads}, DecodeShared<D>::kBytes, stream, c);
}

}  // namespace

void launch_split_kv(const DecodeCall& call, Stream stream) {
  if (call.head_dim == 64) return start<64>(call, stream);
  if (call.head_dim == 128) return start<128>(call, stream);
  throw std::invalid_argument{"split_kv: heads of 64 or 128"};
}

void launch_combine(const DecodeCall& c, Stream stream) {
  const std::int64_t rows = c.batch * c.heads;
  launch("combine", merge<float>, {blocks_of(rows, 4)}, {128}, 0, stream,
         static_cast<const float*>(c.part_out), static_cast<const float*>(c.part_max),
         static_cast<const float*>(c.part_sum), static_cast<bf16*>(c.out), rows, static_cast<int>(c.head_dim),
         static_cast<int>(c.splits));
}

void launch_merge(const MergeCall& c, Stream stream) {
  const std::int64_t rows = c.rows * c.heads;
  launch("merge", merge<bf16>, {blocks_of(rows, 4)}, {128}, 0, stream, static_cast<const bf16*>(c.parts_out),
         c.max, c.expsum, static_cast<bf16*>(c.out), rows, static_cast<int>(c.head_dim),
         static_cast<int>(c.parts));
}

}  // namespace tessera::cuda
