#include "kernels/cuda/reduce.cuh"
#include "kernels/linear_attention/kda.hpp"

namespace tessera::cuda {

namespace {

constexpr int kDim = static_cast<int>(kKdaDim), kChunk = static_cast<int>(kKdaChunk), kThreads = 256;
constexpr int kStride = kDim + 1;  // rows of shared memory begin in different banks
constexpr int kSlice = 32;         // of the value dimension, for a CTA of the state pass

__device__ int thread() { return static_cast<int>(threadIdx.x); }
__device__ float softplus(float x) { return x > 20 ? x : log1pf(__expf(x)); }
__device__ float decay_of(const KdaCall& c, int head, int d, float gate) {
  return -__expf(c.a_log[head]) * softplus(gate + c.dt_bias[head * kDim + d]);
}

/// A warp for each row of q and of k.
__global__ void unit_length(const bf16* in, bf16* out, std::int64_t rows) {
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (row >= rows) return;
  const int lane = thread() % 32;
  float x[kDim / 32], squares = 0;
  for (int i = 0; i < kDim / 32; ++i) {
    x[i] = static_cast<float>(in[row * kDim + i * 32 + lane]);
    squares += x[i] * x[i];
  }
  const float scale = rsqrtf(warp_reduce(squares, Add{}) + kKdaLengthEpsilon);
  for (int i = 0; i < kDim / 32; ++i) out[row * kDim + i * 32 + lane] = bf16{x[i] * scale};
}

/// A CTA of 128 threads for each chunk and head.
__global__ void decay_sums(KdaCall c) {
  const std::int64_t chunk = blockIdx.x, head = blockIdx.y, batch = blockIdx.z;
  const std::int64_t first = chunk * kChunk, end = min(first + kChunk, c.seq);
  float sum = 0;
  for (std::int64_t row = first; row < end; ++row) {
    const std::int64_t at = ((batch * c.seq + row) * c.heads + head) * kDim + thread();
    sum += decay_of(c, static_cast<int>(head), thread(),
                    static_cast<float>(static_cast<const bf16*>(c.gate)[at]));
    c.decay[at] = sum;
  }
}

/// Rows of a chunk, of one head. Beyond the sequence: zeros, and the running sum stays.
struct Chunk {
  std::int64_t base, row_step;
  int rows;  // of the sequence
  __device__ Chunk(const KdaCall& c, std::int64_t batch, std::int64_t chunk, std::int64_t head)
      : base{((batch * c.seq + chunk * kChunk) * c.heads + head) * kDim},
        row_step{c.heads * kDim},
        rows{static_cast<int>(min(static_cast<std::int64_t>(kChunk), c.seq - chunk * kChunk))} {}
  __device__ std::int64_t at(int row, int d) const { return base + row * row_step + d; }
  __device__ float value(const void* of, int row, int d) const {
    return row < rows ? static_cast<float>(static_cast<const bf16*>(of)[at(row, d)]) : 0;
  }
  __device__ float decay(const KdaCall& c, int row, int d) const {
    return c.decay[at(min(row, rows - 1), d)];
  }
};

/// A, the lower scores, and U and W by forward substitution, one column of [V, e^G K] a thread.
__global__ void __launch_bounds__(kThreads) intra(KdaCall c) {
  TESSERA_DYNAMIC_SHARED(memory);
  float *const k = reinterpret_cast<float*>(memory), *const q = k + kChunk * kStride,
               *const g = q + kChunk * kStride, *const a = g + kChunk * kStride,
               *const beta = a + kChunk * kChunk;
  const std::int64_t index = blockIdx.x, head = blockIdx.y, batch = blockIdx.z;
  const Chunk chunk{c, batch, index, head};
  const int t = thread();
  for (int i = t; i < kChunk * kDim; i += kThreads) {
    const int row = i / kDim, d = i % kDim;
    k[row * kStride + d] = chunk.value(c.k_unit, row, d);
    q[row * kStride + d] = chunk.value(c.q_unit, row, d);
    g[row * kStride + d] = chunk.decay(c, row, d);
  }
  if (t < kChunk)
    beta[t] = t < chunk.rows ? static_cast<float>(static_cast<const bf16*>(
                                   c.beta)[(batch * c.seq + index * kChunk + t) * c.heads + head])
                             : 0;
  __syncthreads();
  // A tile of 4 x 4 pairs (i, j) for each thread.
  const int i0 = t / 16 * 4, j0 = t % 16 * 4;
  float keys[4][4] = {}, queries[4][4] = {};
  if (j0 <= i0 + 3) {
    for (int d = 0; d < kDim; ++d) {
      for (int i = 0; i < 4; ++i) {
        const float ki = k[(i0 + i) * kStride + d], qi = q[(i0 + i) * kStride + d],
                    gi = g[(i0 + i) * kStride + d];
        for (int j = 0; j < 4; ++j) {
          // Above the diagonal the exponent would be positive; those are not used.
          const float kj = k[(j0 + j) * kStride + d] * __expf(fminf(gi - g[(j0 + j) * kStride + d], 0.0F));
          keys[i][j] += ki * kj;
          queries[i][j] += qi * kj;
        }
      }
    }
  }
  float* const scores = c.scores + ((batch * c.chunks() + index) * c.heads + head) * kChunk * kChunk;
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      a[(i0 + i) * kChunk + j0 + j] = j0 + j < i0 + i ? beta[i0 + i] * keys[i][j] : 0;
      scores[(i0 + i) * kChunk + j0 + j] = j0 + j <= i0 + i ? queries[i][j] : 0;
    }
  }
  __syncthreads();
  const int d = t % kDim;
  const bool of_u = t < kDim;
  float x[kChunk];
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    const float right = of_u ? chunk.value(c.v, i, d) : k[i * kStride + d] * __expf(g[i * kStride + d]);
    float sum = beta[i] * right;
#pragma unroll
    for (int j = 0; j < i; ++j) sum -= a[i * kChunk + j] * x[j];
    x[i] = sum;
    if (i < chunk.rows) (of_u ? c.u : c.w)[chunk.at(i, d)] = sum;
  }
}

/// A CTA for each sequence, head and slice of 32 value columns goes through the chunks.
__global__ void __launch_bounds__(kThreads) state_pass(KdaCall c) {
  TESSERA_DYNAMIC_SHARED(memory);
  float *const s = reinterpret_cast<float*>(memory), *const w = s + kDim * kSlice,
               *const k = w + kChunk * kStride, *const d = k + kChunk * kStride,
               *const last = d + kChunk * kSlice;
  const std::int64_t head = blockIdx.y, batch = blockIdx.z;
  const int first_column = static_cast<int>(blockIdx.x) * kSlice, t = thread(), column = t % kSlice,
            group = t / kSlice;
  constexpr int kGroups = kThreads / kSlice;
  float* const state = c.state + (batch * c.heads + head) * kDim * kDim + first_column;
  for (int i = group; i < kDim; i += kGroups) s[i * kSlice + column] = state[i * kDim + column];
  for (std::int64_t index = 0; index < c.chunks(); ++index) {
    const Chunk chunk{c, batch, index, head};
    __syncthreads();
    float* const before =
        c.states + ((batch * c.chunks() + index) * c.heads + head) * kDim * kDim + first_column;
    for (int i = group; i < kDim; i += kGroups) before[i * kDim + column] = s[i * kSlice + column];
    for (int i = t; i < kChunk * kDim; i += kThreads) {
      const int row = i / kDim, x = i % kDim;
      w[row * kStride + x] = row < chunk.rows ? c.w[chunk.at(row, x)] : 0;
      k[row * kStride + x] =
          chunk.value(c.k_unit, row, x) * __expf(chunk.decay(c, kChunk - 1, x) - chunk.decay(c, row, x));
    }
    if (t < kDim) last[t] = __expf(chunk.decay(c, kChunk - 1, t));
    __syncthreads();
    for (int row = group; row < kChunk; row += kGroups) {
      float value = 0;
      if (row < chunk.rows) {
        value = c.u[chunk.at(row, first_column + column)];
        for (int x = 0; x < kDim; ++x) value -= w[row * kStride + x] * s[x * kSlice + column];
        c.u[chunk.at(row, first_column + column)] = value;
      }
      d[row * kSlice + column] = value;
    }
    __syncthreads();
    for (int i = group; i < kDim; i += kGroups) {
      float value = s[i * kSlice + column] * last[i];
      for (int row = 0; row < kChunk; ++row) value += k[row * kStride + i] * d[row * kSlice + column];
      s[i * kSlice + column] = value;
    }
  }
  __syncthreads();
  for (int i = group; i < kDim; i += kGroups) state[i * kDim + column] = s[i * kSlice + column];
}

/// A CTA for each chunk and head; a thread has 8 rows and 4 columns.
__global__ void __launch_bounds__(kThreads) output(KdaCall c) {
  TESSERA_DYNAMIC_SHARED(memory);
  float *const q = reinterpret_cast<float*>(memory), *const scores = q + kChunk * kStride;
  const std::int64_t index = blockIdx.x, head = blockIdx.y, batch = blockIdx.z;
  const Chunk chunk{c, batch, index, head};
  const int t = thread(), column = t % 32 * 4, row0 = t / 32 * 8;
  const std::int64_t tile = (batch * c.chunks() + index) * c.heads + head;
  for (int i = t; i < kChunk * kDim; i += kThreads)
    q[i / kDim * kStride + i % kDim] =
        chunk.value(c.q_unit, i / kDim, i % kDim) * __expf(chunk.decay(c, i / kDim, i % kDim));
  for (int i = t; i < kChunk * kChunk; i += kThreads) scores[i] = c.scores[tile * kChunk * kChunk + i];
  __syncthreads();
  float sums[8][4] = {};
  const float* const states = c.states + tile * kDim * kDim;
  for (int x = 0; x < kDim; ++x) {
    const float4 s = *reinterpret_cast<const float4*>(states + x * kDim + column);
    for (int r = 0; r < 8; ++r) {
      const float qi = q[(row0 + r) * kStride + x];
      sums[r][0] += qi * s.x;
      sums[r][1] += qi * s.y;
      sums[r][2] += qi * s.z;
      sums[r][3] += qi * s.w;
    }
  }
  for (int j = 0; j < chunk.rows; ++j) {
    const float4 d = *reinterpret_cast<const float4*>(c.u + chunk.at(j, column));
    for (int r = 0; r < 8; ++r) {
      const float p = scores[(row0 + r) * kChunk + j];
      sums[r][0] += p * d.x;
      sums[r][1] += p * d.y;
      sums[r][2] += p * d.z;
      sums[r][3] += p * d.w;
    }
  }
  const float scale = rsqrtf(static_cast<float>(kDim));
  for (int r = 0; r < 8; ++r)
    for (int i = 0; i < 4 && row0 + r < chunk.rows; ++i)
      static_cast<bf16*>(c.out)[chunk.at(row0 + r, column + i)] = bf16{sums[r][i] * scale};
}

/// A CTA of 4 warps for each sequence, head and 32 value columns: lanes along the columns, each warp 32 key
/// channels.
__global__ void __launch_bounds__(128) decode(KdaCall c) {
  TESSERA_SHARED(float, q, kDim);
  TESSERA_SHARED(float, k, kDim);
  TESSERA_SHARED(float, a, kDim);
  TESSERA_SHARED(float, partial, 4 * kSlice);
  TESSERA_SHARED(float, scratch, 32);
  const std::int64_t head = blockIdx.y, batch = blockIdx.z;
  const int t = thread(), warp = t / 32, column = static_cast<int>(blockIdx.x) * kSlice + t % 32,
            lane = t % 32;
  float* const state = c.state + ((batch * c.heads + head) * kDim + warp * 32) * kDim + column;
  float s[32];
#pragma unroll
  for (int i = 0; i < 32; ++i) s[i] = state[i * kDim];
  for (std::int64_t token = 0; token < c.seq; ++token) {
    const std::int64_t row = (batch * c.seq + token) * c.heads + head, at = row * kDim + t;
    const float qt = static_cast<float>(static_cast<const bf16*>(c.q)[at]),
                kt = static_cast<float>(static_cast<const bf16*>(c.k)[at]);
    q[t] = qt * rsqrtf(block_reduce(qt * qt, scratch, Add{}) + kKdaLengthEpsilon);
    k[t] = kt * rsqrtf(block_reduce(kt * kt, scratch, Add{}) + kKdaLengthEpsilon);
    a[t] = __expf(
        decay_of(c, static_cast<int>(head), t, static_cast<float>(static_cast<const bf16*>(c.gate)[at])));
    __syncthreads();
    float seen = 0;
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      s[i] *= a[warp * 32 + i];
      seen += s[i] * k[warp * 32 + i];
    }
    partial[warp * kSlice + lane] = seen;
    __syncthreads();
    seen = partial[lane] + partial[kSlice + lane] + partial[2 * kSlice + lane] + partial[3 * kSlice + lane];
    const float beta = static_cast<float>(static_cast<const bf16*>(c.beta)[row]);
    const float d = beta * (static_cast<float>(static_cast<const bf16*>(c.v)[row * kDim + column]) - seen);
    float out = 0;
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      s[i] += k[warp * 32 + i] * d;
      out += s[i] * q[warp * 32 + i];
    }
    __syncthreads();  // `partial` has been read
    partial[warp * kSlice + lane] = out;
    __syncthreads();
    if (warp == 0) {
      out = partial[lane] + partial[kSlice + lane] + partial[2 * kSlice + lane] + partial[3 * kSlice + lane];
      static_cast<bf16*>(c.out)[row * kDim + column] = bf16{out * rsqrtf(static_cast<float>(kDim))};
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 32; ++i) state[i * kDim] = s[i];
}

constexpr int kConvTokens = 16;

/// A thread for 8 channels of 16 tokens.
__global__ void causal_conv1d(ConvCall c) {
  const std::int64_t columns = c.channels / 8, runs = (c.seq + kConvTokens - 1) / kConvTokens;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= c.batch * runs * columns) return;
  const std::int64_t channel = index % columns * 8, run = index / columns % runs,
                     batch = index / columns / runs;
  const bf16* const x = static_cast<const bf16*>(c.x) + batch * c.seq * c.channels + channel;
  bf16* const out = static_cast<bf16*>(c.out) + batch * c.seq * c.channels + channel;
  bf16* const state = static_cast<bf16*>(c.state) + (batch * c.channels + channel) * (kConvTaps - 1);
  float weight[8][kConvTaps], window[kConvTaps][8];
  for (int i = 0; i < 8; ++i)
    for (int tap = 0; tap < kConvTaps; ++tap)
      weight[i][tap] =
          static_cast<float>(static_cast<const bf16*>(c.weight)[(channel + i) * kConvTaps + tap]);
  const auto input = [&](std::int64_t token, int i) -> float {
    if (token >= 0) return static_cast<float>(x[token * c.channels + i]);
    return c.from_state ? static_cast<float>(state[i * (kConvTaps - 1) + kConvTaps - 1 + token]) : 0.0F;
  };
  const std::int64_t first = run * kConvTokens, end = min(first + kConvTokens, c.seq);
  for (int i = 0; i < 8; ++i)
    for (int back = 1; back < kConvTaps; ++back) window[kConvTaps - back][i] = input(first - back, i);
  for (std::int64_t token = first; token < end; ++token) {
    Eight now = load_eight(x + token * c.channels), y{};
    for (int i = 0; i < 8; ++i) {
      for (int tap = 0; tap + 1 < kConvTaps; ++tap) window[tap][i] = window[tap + 1][i];
      window[kConvTaps - 1][i] = now.get(i);
      float sum = 0;
      for (int tap = 0; tap < kConvTaps; ++tap) sum += weight[i][tap] * window[tap][i];
      y.set(i, sum / (1 + __expf(-sum)));
    }
    store_eight(out + token * c.channels, y);
  }
  if (end != c.seq) return;
  // Only this thread touches its channels' state: where one is read, a sequence is one run.
  for (int i = 0; i < 8; ++i)
    for (int tap = 1; tap < kConvTaps; ++tap) state[i * (kConvTaps - 1) + tap - 1] = bf16{window[tap][i]};
}

unsigned to_unsigned(std::int64_t x) { return static_cast<unsigned>(x); }
dim3 grid_of(const KdaCall& c, std::int64_t x) {
  return {to_unsigned(x), to_unsigned(c.heads), to_unsigned(c.batch)};
}

}  // namespace

void launch_kda_unit_length(const KdaCall& c, Stream stream) {
  const std::int64_t rows = c.batch * c.seq * c.heads;
  for (const bool of_q : {true, false})
    launch("unit_length", unit_length, {blocks_of(rows, kThreads / 32)}, {kThreads}, 0, stream,
           static_cast<const bf16*>(of_q ? c.q : c.k), static_cast<bf16*>(of_q ? c.q_unit : c.k_unit), rows);
}
void launch_kda_decay(const KdaCall& c, Stream stream) {
  launch("decay_sums", decay_sums, grid_of(c, c.chunks()), {kDim}, 0, stream, c);
}
void launch_kda_intra(const KdaCall& c, Stream stream) {
  launch("intra", intra, grid_of(c, c.chunks()), {kThreads},
         4 * (3 * kChunk * kStride + kChunk * kChunk + kChunk), stream, c);
}
void launch_kda_state_pass(const KdaCall& c, Stream stream) {
  launch("state_pass", state_pass, grid_of(c, kDim / kSlice), {kThreads},
         4 * (kDim * kSlice + 2 * kChunk * kStride + kChunk * kSlice + kDim), stream, c);
}
void launch_kda_output(const KdaCall& c, Stream stream) {
  launch("output", output, grid_of(c, c.chunks()), {kThreads}, 4 * (kChunk * kStride + kChunk * kChunk),
         stream, c);
}
void launch_kda_decode(const KdaCall& c, Stream stream) {
  launch("kda_decode", decode, grid_of(c, kDim / kSlice), {128}, 0, stream, c);
}
void launch_causal_conv1d(const ConvCall& c, Stream stream) {
  if (c.channels % 8 != 0) throw std::invalid_argument{"causal_conv1d: channels must be a multiple of 8"};
  if (c.from_state && c.seq > kConvTokens)
    throw std::invalid_argument{"causal_conv1d: at most 16 tokens can continue from a state"};
  const std::int64_t threads = c.batch * tiles_of(c.seq, kConvTokens) * (c.channels / 8);
  launch("causal_conv1d", causal_conv1d, {blocks_of(threads, kThreads)}, {kThreads}, 0, stream, c);
}

}  // namespace tessera::cuda
