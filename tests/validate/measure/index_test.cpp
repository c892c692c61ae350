// Index arithmetic that the CUDA kernels and the host share.

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <set>
#include <vector>

#include "kernels/block_sparse/moba.hpp"
#include "kernels/cuda/random.hpp"
#include "kernels/cuda/tiles.hpp"

namespace tessera::cuda {

namespace {

/// Every element of a tile exactly once.
template <class At>
void require_covers(int threads, int registers, int each, int rows, int columns, bool down, At at) {
  std::set<std::pair<int, int>> seen;
  for (int t = 0; t < threads; ++t) {
    for (int r = 0; r < registers; ++r) {
      for (int i = 0; i < each; ++i) {
        const Element e = at(t, r);
        CHECK(seen.emplace(e.row + (down ? i : 0), e.column + (down ? 0 : i)).second);
      }
    }
  }
  REQUIRE(seen.size() == static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns));
  CHECK(seen.rbegin()->first == rows - 1);
  for (const auto& [row, column] : seen) CHECK((row >= 0 && column >= 0 && column < columns));
}

}  // namespace

TEST_CASE("fragments hold every element of their tile once") {
  require_covers(32, 4, 2, 16, 16, false, mma_a);
  require_covers(32, 2, 2, 16, 8, true, mma_b);
  require_covers(32, 4, 1, 16, 8, false, mma_c);
  for (const int n : {64, 128, 256}) require_covers(128, n / 2, 1, 64, n, false, wgmma_c);
}

TEST_CASE("an accumulator of mma.sync is the next product's left operand") {
  // Columns 16 k to 16 k + 15 of C [16 x 8 n], as pairs, are the A fragment: what the kernels' `pack` relies
  // on.
  for (int lane = 0; lane < 32; ++lane) {
    for (int reg = 0; reg < 4; ++reg) {
      const Element want = mma_a(lane, reg);
      const Element have = mma_c(lane, 2 * (reg % 2));
      CHECK(want.row == have.row);
      CHECK(want.column == have.column + 8 * (reg / 2));
    }
  }
}

TEST_CASE(
    "the 128-byte swizzle moves 16-byte pieces within rows, and each column's rows to different banks") {
  std::set<std::uint32_t> seen;
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 64; ++column) {
      const std::uint32_t at = swizzled_128b(row, column);
      CHECK(at / 128 == static_cast<std::uint32_t>(row));
      seen.insert(at);
    }
  CHECK(seen.size() == 16 * 64);
  for (int column = 0; column < 64; column += 8) {
    std::set<std::uint32_t> banks;
    for (int row = 0; row < 8; ++row) banks.insert(swizzled_128b(row, column) % 128);
    CHECK(banks.size() == 8);
  }
  // The hardware's rule: address bits 4 to 6 by bits 7 to 9.
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 64; ++column) {
      const auto plain = static_cast<std::uint32_t>(row * 128 + column * 2);
      CHECK(swizzled_128b(row, column) == (plain ^ ((plain >> 7 & 7) << 4)));
    }
}

TEST_CASE("a wgmma descriptor holds addresses in units of 16 bytes") {
  const std::uint64_t d = wgmma_descriptor(0x12340, 16384, 1024);
  CHECK((d & 0x3fff) == 0x1234);
  CHECK((d >> 16 & 0x3fff) == 1024);
  CHECK((d >> 32 & 0x3fff) == 64);
  CHECK(d >> 62 == 1);
}

TEST_CASE("a causal tile's keys end with its last query's") {
  CHECK(causal_key_tiles(0, 64, 1000, 1000, 64) == 1);
  CHECK(causal_key_tiles(64, 64, 1000, 1000, 64) == 2);
  CHECK(causal_key_tiles(960, 64, 1000, 1000, 64) == 16);
  CHECK(causal_key_tiles(0, 64, 64, 1000, 64) == 16);  // the last 64 of 1000 keys
  CHECK(causal_key_tiles(0, 64, 1000, 64, 64) == 0);   // stands before the first key
  CHECK(causal_key_tiles(960, 64, 1000, 64, 64) == 1);
}

TEST_CASE("splits share out all tiles, evenly") {
  for (const std::int64_t tiles : {1, 7, 64, 1001}) {
    for (const std::int64_t splits : {1, 2, 7}) {
      std::int64_t next = 0;
      for (std::int64_t s = 0; s < splits; ++s) {
        const TileRange r = split_of(tiles, splits, s);
        CHECK(r.begin == next);
        CHECK(r.end - r.begin >= tiles / splits);
        CHECK(r.end - r.begin <= tiles / splits + 1);
        next = r.end;
      }
      CHECK(next == tiles);
    }
  }
  CHECK(decode_splits(8, 512, 132) == 33);
  CHECK(decode_splits(1, 3, 132) == 3);
  CHECK(decode_splits(1000, 512, 132) == 1);
}

TEST_CASE("an item of a list is found in its block, empty blocks passed over") {
  const std::vector<std::int32_t> offsets{0, 0, 3, 3, 3, 7, 7};
  const int blocks = 6;
  for (int item = 0; item < 7; ++item)
    CHECK(block_of_item(offsets.data(), blocks, item) == (item < 3 ? 1 : 4));
}

TEST_CASE("random inputs are normal, uniform, and depend on seed and index only") {
  double sum = 0, squares = 0, uniform = 0;
  constexpr int kCount = 100000;
  for (int i = 0; i < kCount; ++i) {
    const double x = normal_value(5, i);
    sum += x;
    squares += x * x;
    uniform += uniform_value(5, i);
    CHECK(std::abs(x) < 3.47);
  }
  CHECK(std::abs(sum / kCount) < 0.01);
  CHECK(std::abs(squares / kCount - 1) < 0.01);
  CHECK(std::abs(uniform / kCount - 0.5) < 0.01);
  CHECK(normal_value(5, 77) == normal_value(5, 77));
  CHECK(normal_value(5, 77) != normal_value(6, 77));
}

}  // namespace tessera::cuda
