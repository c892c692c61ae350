#include "kernels/attention_prefill/flash_mma.hpp"
#include "kernels/cuda/flash_tile.cuh"

namespace tessera::cuda {

namespace {

template <int DQK, int DV>
__global__ void __launch_bounds__(kFlashThreads, DQK == 64 ? 3 : 1) flash_mma(FlashCall c) {
  TESSERA_DYNAMIC_SHARED(memory);
  const FlashShared<DQK, DV> shared{reinterpret_cast<bf16*>(memory)};
  // The longest causal tiles first.
  const int tile = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  const int head = static_cast<int>(blockIdx.y), batch = static_cast<int>(blockIdx.z);
  const int q_rows = static_cast<int>(c.q_rows), kv_rows = static_cast<int>(c.kv_rows);
  const int heads = static_cast<int>(c.heads), kv_heads = static_cast<int>(c.kv_heads);
  const int kv_head = head / (heads / kv_heads), first_row = tile * kFlashRows;
  const bf16* const q =
      static_cast<const bf16*>(c.q) + (static_cast<std::int64_t>(batch) * q_rows * heads + head) * DQK;
  const bf16* const k =
      static_cast<const bf16*>(c.k) + (static_cast<std::int64_t>(batch) * kv_rows * kv_heads + kv_head) * DQK;
  const bf16* const v =
      static_cast<const bf16*>(c.v) + (static_cast<std::int64_t>(batch) * kv_rows * kv_heads + kv_head) * DV;

  flash_load_rows<DQK>(shared.q(), kFlashRows, [&](int i) -> const bf16* {
    return first_row + i < q_rows ? q + static_cast<std::int64_t>(first_row + i) * heads * DQK : nullptr;
  });
  const bool listed = c.q_positions != nullptr || c.kv_positions != nullptr;
  const auto q_position = [&](int row) {
    if (c.q_positions == nullptr) return row + kv_rows - q_rows;
    return row < q_rows ? c.q_positions[row] : 0;
  };
  const auto kv_position = [&](int row) { return c.kv_positions == nullptr ? row : c.kv_positions[row]; };
  int tiles = static_cast<int>(tiles_of(kv_rows, kFlashKeys));
  if (c.causal && !listed)
    tiles = static_cast<int>(causal_key_tiles(first_row, kFlashRows, q_rows, kv_rows, kFlashKeys));

  FlashState<DV> state;
  state.clear();
  flash_loop<DQK, DV>(
      state, shared, 0, tiles, c.scale * 1.4426950408889634F,
      [&](int t, int i) -> const bf16* {
        const int row = t * kFlashKeys + i;
        return row < kv_rows ? k + static_cast<std::int64_t>(row) * kv_heads * DQK : nullptr;
      },
      [&](int t, int i) -> const bf16* {
        const int row = t * kFlashKeys + i;
        return row < kv_rows ? v + static_cast<std::int64_t>(row) * kv_heads * DV : nullptr;
      },
      [&](int t) {
        const int end = (t + 1) * kFlashKeys;
        return end > kv_rows || (c.causal && (listed || end > first_row + kv_rows - q_rows + 1));
      },
      [&](int row, int t, int key) {
        const int at = t * kFlashKeys + key;
        return at < kv_rows && (!c.causal || kv_position(at) <= q_position(first_row + row));
      });

  const std::int64_t row0 = (static_cast<std::int64_t>(batch) * q_rows + first_row) * heads + head;
  flash_store<DV>(
      state,
      [&](int i) -> bf16* {
        return first_row + i < q_rows
                   ? static_cast<bf16*>(c.out) + (row0 + static_cast<std::int64_t>(i) * heads) * DV
                   : nullptr;
      },
      [&](int i, float max, float sum) {
        if (c.max != nullptr) c.max[row0 + static_cast<std::int64_t>(i) * heads] = max;
        if (c.expsum != nullptr) c.expsum[row0 + static_cast<std::int64_t>(i) * heads] = sum;
      });
}

template <int DQK, int DV>
void start(const FlashCall& c, Stream stream) {
  launch("flash_mma", flash_mma<DQK, DV>,
         {blocks_of(c.q_rows, kFlashRows), static_cast<unsigned>(c.heads), static_cast<unsigned>(c.batch)},
         {kFlashThreads}, FlashShared<DQK, DV>::kBytes, stream, c);
}

}  // namespace

void launch_flash_mma(const FlashCall& call, std::int64_t qk_dim, std::int64_t v_dim, Stream stream) {
  if (qk_dim == 64 && v_dim == 64) return start<64, 64>(call, stream);
  if (qk_dim == 128 && v_dim == 128) return start<128, 128>(call, stream);
  if (qk_dim == 192 && v_dim == 128) return start<192, 128>(call, stream);
  throw std::invalid_argument{"flash_mma: no kernel for these head sizes"};
}

}  // namespace tessera::cuda
