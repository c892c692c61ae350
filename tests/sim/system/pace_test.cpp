#include "sim/system/pace.hpp"

#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>
#include <vector>

namespace tessera::sim {
namespace {

TEST_CASE("between sizes that have been met the time is a power law, beyond them that of the nearest") {
  Pace pace;
  CHECK(!pace.known());
  pace.ended(1, 0.2);
  pace.ended(1, 0.4);
  CHECK(pace.seconds(1.5) == Catch::Approx(0.3));
  CHECK(pace.seconds(1e-3) == Catch::Approx(0.3));
  pace.ended(1.0 / 16, 0.03);
  CHECK(pace.seconds(0.25) == Catch::Approx(std::sqrt(0.3 * 0.03)));
  CHECK(pace.seconds(100) == Catch::Approx(0.3));
}

TEST_CASE("the order has everything once, mostly the longest first") {
  const std::vector<double> sizes{1, 7, 3, 9, 9, 2, 5, 8, 4, 6};
  std::vector<std::size_t> order = order_of(sizes);
  CHECK(order[0] == 3);
  CHECK(order[1] == 4);
  CHECK(order[2] == 7);
  CHECK(sizes[order[3]] < 7);
  std::sort(order.begin(), order.end());
  for (std::size_t i = 0; i < sizes.size(); ++i) CHECK(order[i] == i);
  CHECK(order_of({}).empty());
}

TEST_CASE("of sampled kernels, which take no longer than so long, what is left is foreseen") {
  std::mt19937_64 random{5};
  std::lognormal_distribution<double> sizes{-9, 3}, noise{0, 0.2};
  std::vector<double> size(1000), took(1000);
  double total = 0;
  for (std::size_t i = 0; i < size.size(); ++i) {
    size[i] = sizes(random);
    total += took[i] = (0.02 + std::min(0.6, 5 * size[i])) * noise(random);
  }
  const std::vector<std::size_t> order = order_of(size);
  Pace pace;
  double done = 0;
  std::size_t next = 0;
  // By the sizes alone, nearly all would be done after a tenth of the time.
  for (const double after : {0.1, 0.25, 0.5, 0.75}) {
    for (; done < after * total; ++next) {
      done += took[order[next]];
      pace.ended(size[order[next]], took[order[next]]);
    }
    double left = 0;
    for (std::size_t i = next; i < order.size(); ++i) left += pace.seconds(size[order[i]]);
    INFO("after " << after << ": " << left << " s expected, " << total - done << " s were left");
    CHECK(left > 0.6 * (total - done));
    CHECK(left < 1.6 * (total - done));
  }
}

}  // namespace
}  // namespace tessera::sim
