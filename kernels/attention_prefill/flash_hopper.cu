#include "kernels/attention_prefill/flash_hopper.hpp"
#include "kernels/cuda/wgmma.cuh"

namespace tessera::cuda {

namespace {

constexpr int kGroup = 128;                // threads of a warpgroup
constexpr int kConsumers = 2, kRows = 64;  // query rows of each
constexpr int kKeys = 128, kStages = 2;
constexpr int kThreads = (1 + kConsumers) * kGroup;
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;

/// Tiles lie as TMA writes them: blocks of 64 elements of head_dim after each other, rows of 128 bytes in
/// each.
template <int D>
struct Shared {
  static constexpr int kBlocks = D / 64;
  static constexpr int kQBytes = kRows * D * 2, kTileBytes = kKeys * D * 2;
  static constexpr int kBarriers = kConsumers * kQBytes + 2 * kStages * kTileBytes;
  static constexpr int kBytes = kBarriers + 1024;
  unsigned char* base;
  __device__ unsigned char* q(int consumer) const { return base + consumer * kQBytes; }
  __device__ unsigned char* k(int stage) const { return base + kConsumers * kQBytes + stage * kTileBytes; }
  __device__ unsigned char* v(int stage) const { return k(kStages + stage); }
  __device__ Barrier* q_there() const { return reinterpret_cast<Barrier*>(base + kBarriers); }
  __device__ Barrier* k_there(int stage) const { return q_there() + 1 + stage; }
  __device__ Barrier* v_there(int stage) const { return k_there(kStages + stage); }
  __device__ Barrier* k_free(int stage) const { return v_there(kStages + stage); }
  __device__ Barrier* v_free(int stage) const { return k_free(kStages + stage); }
};

/// The i-th tile that is taken is in stage i % kStages, in that stage's phase of this parity.
__device__ int parity_of(int i) { return i / kStages % 2; }

template <int D>
__device__ void produce(const FlashCall& c, const Shared<D>& shared, const TensorMap* q, const TensorMap* k,
                        const TensorMap* v, int tiles, int first_row, int head, int batch) {
  const int kv_head = head / static_cast<int>(c.heads / c.kv_heads);
  arrive_expecting(shared.q_there(), kConsumers * Shared<D>::kQBytes);
  for (int consumer = 0; consumer < kConsumers; ++consumer)
    for (int block = 0; block < Shared<D>::kBlocks; ++block)
      tma_load(shared.q(consumer) + block * kRows * 128, q, shared.q_there(), block * 64, head,
               first_row + consumer * kRows, batch);
  const auto bring = [&](const TensorMap* map, unsigned char* to, Barrier* there, int tile) {
    arrive_expecting(there, Shared<D>::kTileBytes);
    for (int block = 0; block < Shared<D>::kBlocks; ++block)
      tma_load(to + block * kKeys * 128, map, there, block * 64, kv_head, tile * kKeys, batch);
  };
  for (int i = 0; i < tiles; ++i) {
    const int stage = i % kStages, tile = tiles - 1 - i;
    // A fresh barrier counts as one whose phase before is over.
    wait_phase(shared.k_free(stage), 1 - parity_of(i));
    bring(k, shared.k(stage), shared.k_there(stage), tile);
    wait_phase(shared.v_free(stage), 1 - parity_of(i));
    bring(v, shared.v(stage), shared.v_there(stage), tile);
  }
}

/// What a thread has of its two rows.
struct Rows {
  float max[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, shrink[2] = {1, 1};
};

/// Scores to exponentials in place.
__device__ void softmax(float (&scores)[kKeys / 2], Rows& rows, float scale_log2) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float most = -INFINITY;
#pragma unroll
    for (int i = 2 * half; i < kKeys / 2; i += 4) most = fmaxf(most, fmaxf(scores[i], scores[i + 1]));
    most = fmaxf(rows.max[half], row_max(most) * scale_log2);
    const float floor = most == -INFINITY ? 0 : most;
    rows.shrink[half] = fast_exp2(rows.max[half] - floor);
    rows.max[half] = most;
    float sum = 0;
#pragma unroll
    for (int i = 2 * half; i < kKeys / 2; i += 4) {
      for (int j = 0; j < 2; ++j) {
        scores[i + j] = fast_exp2(scores[i + j] * scale_log2 - floor);
        sum += scores[i + j];
      }
    }
    rows.sum[half] = rows.sum[half] * rows.shrink[half] + row_sum(sum);
  }
}

template <int D>
__device__ void consume(const FlashCall& c, const Shared<D>& shared, int consumer, int tiles, int first_row,
                        int head, int batch) {
  const int thread = static_cast<int>(threadIdx.x) % kGroup, lane = thread % 32;
  const int q_rows = static_cast<int>(c.q_rows), kv_rows = static_cast<int>(c.kv_rows),
            offset = kv_rows - q_rows;
  const float scale_log2 = c.scale * 1.4426950408889634F;
  const auto q_descriptor = [&](int d) {
    return wgmma_descriptor(shared_address(shared.q(consumer)) + d / 64 * kRows * 128 + d % 64 * 2, 16, 1024);
  };
  const auto k_descriptor = [&](int stage, int d) {
    return wgmma_descriptor(shared_address(shared.k(stage)) + d / 64 * kKeys * 128 + d % 64 * 2, 16, 1024);
  };
  const auto v_descriptor = [&](int stage, int key) {
    return wgmma_descriptor(shared_address(shared.v(stage)) + key * 128, kKeys * 128, 1024);
  };
  const auto release = [&](Barrier* barrier) {
    __syncwarp();
    if (lane == 0) arrive(barrier);
  };
  const auto score = [&](float(&scores)[kKeys / 2], int stage) {
    wgmma_fence();
#pragma unroll
    for (int d = 0; d < D; d += 16)
      wgmma<kKeys, false>(scores, q_descriptor(d), k_descriptor(stage, d), d > 0);
    wgmma_commit();
  };
  const auto mask = [&](float(&scores)[kKeys / 2], int tile) {
    const int end = (tile + 1) * kKeys;
    if (end <= kv_rows && (!c.causal || end <= first_row + offset + 1)) return;
#pragma unroll
    for (int i = 0; i < kKeys / 2; ++i) {
      const Element at = wgmma_c(thread, i);
      const int key = tile * kKeys + at.column;
      if (key >= kv_rows || (c.causal && key > first_row + at.row + offset)) scores[i] = -INFINITY;
    }
  };

  Rows rows;
  float out[D / 2];
#pragma unroll
  for (int i = 0; i < D / 2; ++i) out[i] = 0;
  std::uint32_t p[kKeys / 16][4];
  const auto to_bf16 = [&](const float(&scores)[kKeys / 2]) {
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k)
#pragma unroll
      for (int i = 0; i < 4; ++i) p[k][i] = pack(scores[8 * k + 2 * i], scores[8 * k + 2 * i + 1]);
  };
  const auto accumulate = [&](int stage) {
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) wgmma<D, true>(out, p[k], v_descriptor(stage, k * 16), true);
    wgmma_commit();
  };

  wait_phase(shared.q_there(), 0);
  if (tiles > 0) {
    float scores[kKeys / 2];
    wait_phase(shared.k_there(0), 0);
    score(scores, 0);
    wgmma_wait<0>();
    keep(scores);
    release(shared.k_free(0));
    mask(scores, tiles - 1);
    softmax(scores, rows, scale_log2);
    to_bf16(scores);
  }
  for (int i = 1; i < tiles; ++i) {
    // The scores of this tile and the products of the one before are in flight together.
    const int stage = i % kStages, before = (i - 1) % kStages;
    float scores[kKeys / 2];
    wait_phase(shared.k_there(stage), parity_of(i));
    score(scores, stage);
    wait_phase(shared.v_there(before), parity_of(i - 1));
    accumulate(before);
    wgmma_wait<1>();
    keep(scores);
    release(shared.k_free(stage));
    mask(scores, tiles - 1 - i);
    softmax(scores, rows, scale_log2);
    wgmma_wait<0>();
    keep(out);
    release(shared.v_free(before));
#pragma unroll
    for (int j = 0; j < D / 2; ++j) out[j] *= rows.shrink[j / 2 % 2];
    to_bf16(scores);
  }
  if (tiles > 0) {
    wait_phase(shared.v_there((tiles - 1) % kStages), parity_of(tiles - 1));
    accumulate((tiles - 1) % kStages);
    wgmma_wait<0>();
    keep(out);
  }

  for (int half = 0; half < 2; ++half) {
    const int row = first_row + thread / 32 * 16 + lane / 4 + half * 8;
    if (row >= q_rows) continue;
    const std::int64_t at = (static_cast<std::int64_t>(batch) * q_rows + row) * c.heads + head;
    const float inverse = rows.sum[half] > 0 ? 1 / rows.sum[half] : 0;
    bf16* const to = static_cast<bf16*>(c.out) + at * D + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
      *reinterpret_cast<__nv_bfloat162*>(to + n * 8) =
          __floats2bfloat162_rn(out[4 * n + 2 * half] * inverse, out[4 * n + 2 * half + 1] * inverse);
    if (lane % 4 == 0) {
      if (c.max != nullptr) c.max[at] = rows.max[half] * 0.6931471805599453F;
      if (c.expsum != nullptr) c.expsum[at] = rows.sum[half];
    }
  }
}

template <int D>
__global__ void __launch_bounds__(kThreads, 1)
    flash_hopper(FlashCall c, const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
                 const __grid_constant__ TensorMap v) {
  TESSERA_DYNAMIC_SHARED(memory);
  const Shared<D> shared{memory};
  const int group = static_cast<int>(threadIdx.x) / kGroup;
  const int tile = static_cast<int>(gridDim.x - 1 - blockIdx.x), head = static_cast<int>(blockIdx.y),
            batch = static_cast<int>(blockIdx.z), first_row = tile * kConsumers * kRows;
  std::int64_t tiles = tiles_of(c.kv_rows, kKeys);
  if (c.causal) tiles = causal_key_tiles(first_row, kConsumers * kRows, c.q_rows, c.kv_rows, kKeys);
  if (threadIdx.x == 0) {
    init_barrier(shared.q_there(), 1);
    for (int stage = 0; stage < kStages; ++stage) {
      init_barrier(shared.k_there(stage), 1);
      init_barrier(shared.v_there(stage), 1);
      init_barrier(shared.k_free(stage), kConsumers * kGroup / 32);
      init_barrier(shared.v_free(stage), kConsumers * kGroup / 32);
    }
    fence_barriers();
  }
  __syncthreads();
  if (group == 0) {
    give_registers<kProducerRegisters>();
    if (threadIdx.x == 0) produce<D>(c, shared, &q, &k, &v, static_cast<int>(tiles), first_row, head, batch);
  } else {
    take_registers<kConsumerRegisters>();
    consume<D>(c, shared, group - 1, static_cast<int>(tiles), first_row + (group - 1) * kRows, head, batch);
  }
}

/// Consumers wait for registers that the CTA began with: with fewer than they take, for ever.
template <int D>
void require_registers() {
#ifdef __CUDACC__
  cudaFuncAttributes attributes{};
  require(cudaFuncGetAttributes(&attributes, flash_hopper<D>), "flash_hopper");
  constexpr int kTaken = kGroup * (kProducerRegisters + kConsumers * kConsumerRegisters);
  if (attributes.numRegs * kThreads < kTaken)
    throw std::runtime_error{"flash_hopper was compiled for " + std::to_string(attributes.numRegs) +
                             " registers a thread: its warpgroups would wait for ever; expected 168"};
#endif
}

template <int D>
void start(const FlashCall& c, Stream stream) {
  require_registers<D>();
  const TensorMap q = make_rows_map(c.q, c.batch, c.q_rows, c.heads, D, kRows),
                  k = make_rows_map(c.k, c.batch, c.kv_rows, c.kv_heads, D, kKeys),
                  v = make_rows_map(c.v, c.batch, c.kv_rows, c.kv_heads, D, kKeys);
  launch("flash_hopper", flash_hopper<D>,
         {blocks_of(c.q_rows, kConsumers * kRows), static_cast<unsigned>(c.heads),
          static_cast<unsigned>(c.batch)},
         {kThreads}, Shared<D>::kBytes, stream, c, q, k, v);
}

}  // namespace

void launch_flash_hopper(const FlashCall& call, std::int64_t head_dim, Stream stream) {
  if (head_dim == 64) return start<64>(call, stream);
  if (head_dim == 128) return start<128>(call, stream);
  throw std::invalid_argument{"flash_hopper: heads of 64 or 128"};
}

}  // namespace tessera::cuda
