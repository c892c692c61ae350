#pragma once
// Index arithmetic of the CUDA kernels, in functions that the host's tests check: which element of a tile a
// lane's register holds, where a swizzled byte lies, which keys a query tile sees.
//
// Fragments: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type" and "Register Fragments
// for wgmma.mma_async.m64nNk16". A register here is 32 bits wide: two bf16 of neighbouring columns (A), rows
// (B), or one fp32 (C).

#include <cstdint>

#include "kernels/cuda/host_device.hpp"

namespace tessera::cuda {

struct Element {
  int row, column;
};

/// The first of the two elements in register `reg` (0 to 3) of A [16 x 16]; the second is a column on.
TESSERA_HOST_DEVICE constexpr Element mma_a(int lane, int reg) {
  return {lane / 4 + (reg % 2) * 8, (lane % 4) * 2 + (reg / 2) * 8};
}
/// The first of the two elements in register `reg` (0 or 1) of B [16 x 8], k by n; the second is a row on.
TESSERA_HOST_DEVICE constexpr Element mma_b(int lane, int reg) {
  return {(lane % 4) * 2 + reg * 8, lane / 4};
}
/// The element in register `reg` (0 to 3) of C [16 x 8].
TESSERA_HOST_DEVICE constexpr Element mma_c(int lane, int reg) {
  return {lane / 4 + (reg / 2) * 8, (lane % 4) * 2 + reg % 2};
}
/// The element in register `reg` (0 to N / 2 - 1) of a warpgroup's accumulator [64 x N]; `thread` 0 to 127.
TESSERA_HOST_DEVICE constexpr Element wgmma_c(int thread, int reg) {
  return {(thread / 32) * 16 + (thread % 32) / 4 + ((reg / 2) % 2) * 8,
          (reg / 4) * 8 + (thread % 4) * 2 + reg % 2};
}

/// Byte offset of element (row, column) of a bf16 tile with rows of 64 (128 B) as TMA writes it with
/// CU_TENSOR_MAP_SWIZZLE_128B: within each 1024 B, 16-byte chunk c of row r lies where chunk c xor r would.
TESSERA_HOST_DEVICE constexpr std::uint32_t swizzled_128b(int row, int column) {
  const auto r = static_cast<std::uint32_t>(row), c = static_cast<std::uint32_t>(column);
  return r * 128 + (((c / 8) ^ (r % 8)) * 16) + (c % 8) * 2;
}

/// A wgmma matrix descriptor (PTX ISA, "Matrix Descriptor Format"), 128-byte swizzle. Byte counts; each must
/// be a multiple of 16. For a K-major operand of 64 bf16 per row `stride` is 1024, the distance of groups of
/// 8 rows, and `leading` is not used. For an MN-major one `leading` is the distance of blocks of 64 along M
/// or N, `stride` that of groups of 8 along K.
TESSERA_HOST_DEVICE constexpr std::uint64_t wgmma_descriptor(std::uint32_t shared_address,
                                                             std::uint32_t leading, std::uint32_t stride) {
  const auto field = [](std::uint32_t bytes) { return static_cast<std::uint64_t>((bytes & 0x3ffff) >> 4); };
  return field(shared_address) | field(leading) << 16 | field(stride) << 32 | std::uint64_t{1} << 62;
}

TESSERA_HOST_DEVICE constexpr std::int64_t tiles_of(std::int64_t items, std::int64_t tile) {
  return (items + tile - 1) / tile;
}

/// Key tiles that a causal query tile [first, first + rows) sees, when the last of `q_rows` queries stands at
/// the last of `kv_rows` keys.
TESSERA_HOST_DEVICE constexpr std::int64_t causal_key_tiles(std::int64_t first, std::int64_t rows,
                                                            std::int64_t q_rows, std::int64_t kv_rows,
                                                            std::int64_t tile) {
  const std::int64_t last = (first + rows < q_rows ? first + rows : q_rows) + kv_rows - q_rows;
  return last <= 0 ? 0 : tiles_of(last < kv_rows ? last : kv_rows, tile);
}

/// Tiles [begin, end) of split `index`: whole tiles, the first splits one more.
struct TileRange {
  std::int64_t begin, end;
};
TESSERA_HOST_DEVICE constexpr TileRange split_of(std::int64_t tiles, std::int64_t splits,
                                                 std::int64_t index) {
  const std::int64_t each = tiles / splits, more = tiles % splits;
  const std::int64_t begin = index * each + (index < more ? index : more);
  return {begin, begin + each + (index < more ? 1 : 0)};
}

/// Splits of a decode: enough CTAs for two waves, no split without a tile.
TESSERA_HOST_DEVICE constexpr std::int64_t decode_splits(std::int64_t ctas_unsplit, std::int64_t key_tiles,
                                                         std::int64_t sms) {
  std::int64_t splits = (2 * sms + ctas_unsplit - 1) / ctas_unsplit;
  if (splits > key_tiles) splits = key_tiles;
  if (splits > 64) splits = 64;
  return splits < 1 ? 1 : splits;
}

}  // namespace tessera::cuda
