#include "kernels/tile/divisor.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <initializer_list>
#include <random>

namespace tessera::tile {
namespace {

TEST_CASE("division by multiplication is exact for all 32-bit numbers") {
  constexpr std::uint32_t kMost = 0xffffffffU;
  std::mt19937 random{4};
  const auto check = [](std::uint32_t n, std::uint32_t by) {
    INFO(n << " / " << by);
    CHECK(Divisor{by}(n) == n / by);
  };
  for (int i = 0; i < 1000; ++i) {
    // Of all lengths.
    const auto by = std::max(1U, static_cast<std::uint32_t>(random()) >> (random() % 32));
    check(static_cast<std::uint32_t>(random()) >> (random() % 32), by);
    // Next to where the quotient changes.
    const std::uint32_t multiple = kMost / by * by;
    for (const std::uint32_t n : {multiple, multiple - 1, by, by - 1, kMost, 0U}) check(n, by);
    CHECK(Divisor{by}.up(0) == 0);
  }
  CHECK(Divisor{7}.up(13) == 2);
  CHECK(Divisor{7}.up(14) == 2);
  CHECK(Divisor{7}.up(15) == 3);
  for (const std::uint32_t by : {1U, 2U, 64U, 128U, kMost}) check(kMost, by);
}

}  // namespace
}  // namespace tessera::tile
