#include "sim/gpu/cta_scheduler.hpp"

#include <catch2/catch_test_macros.hpp>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace tessera::sim {
namespace {

tile::LaunchShape grid_of(std::uint32_t ctas, std::uint32_t cluster = 1) {
  tile::LaunchShape shape;
  shape.grid = ctas;
  shape.cluster = cluster;
  return shape;
}

TEST_CASE("CTAs fill a GPC's SMs evenly, each slot once") {
  CtaScheduler ctas{{3, 2}};
  ctas.start(grid_of(100), 2);
  std::map<unsigned, int> of_sm;
  std::set<std::pair<unsigned, unsigned>> slots;
  for (int i = 0; i < 6; ++i) {
    const std::vector<CtaScheduler::Place> placed = ctas.place_cluster(0);
    REQUIRE(placed.size() == 1);
    ++of_sm[placed.front().sm];
    CHECK(slots.insert({placed.front().sm, placed.front().slot}).second);
    if (i == 2) CHECK(of_sm == std::map<unsigned, int>{{0, 1}, {1, 1}, {2, 1}});
  }
  CHECK(ctas.place_cluster(0).empty());
  CHECK(ctas.next() == 6);
  ctas.free(0, {1, 0});
  const std::vector<CtaScheduler::Place> again = ctas.place_cluster(0);
  REQUIRE(again.size() == 1);
  CHECK(again.front().sm == 1);
  CHECK(again.front().slot == 0);
  CHECK_FALSE(ctas.all_placed());
}

TEST_CASE("a cluster stays in one GPC, and waits until there is room for all of it") {
  CtaScheduler ctas{{3, 4}};
  ctas.start(grid_of(8, 4), 1);
  CHECK(ctas.place_cluster(0).empty());
  CHECK(ctas.place_cluster(1).size() == 4);
  CHECK(ctas.place_cluster(1).empty());
  for (std::uint8_t sm = 0; sm < 4; ++sm) ctas.free(1, {sm, 0});
  CHECK(ctas.place_cluster(1).size() == 4);
  CHECK(ctas.all_placed());
  for (std::uint8_t sm = 0; sm < 4; ++sm) ctas.free(1, {sm, 0});
  CHECK(ctas.place_cluster(1).empty());
}

TEST_CASE("the next kernel finds all slots free") {
  CtaScheduler ctas{{2}};
  ctas.start(grid_of(9), 1);
  CHECK(ctas.place_cluster(0).size() == 1);
  ctas.start(grid_of(2), 1);
  CHECK(ctas.next() == 0);
  CHECK(ctas.place_cluster(0).size() == 1);
  CHECK(ctas.place_cluster(0).size() == 1);
  CHECK(ctas.all_placed());
}

}  // namespace
}  // namespace tessera::sim
