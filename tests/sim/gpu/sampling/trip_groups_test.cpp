#include "sim/gpu/sampling/trip_groups.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>

namespace tessera::sim {
namespace {

TripWindow of_mean(double us) { return {.timed = 100, .time = Time::from_us(100 * us), .made = 100}; }

TEST_CASE("a group's mean, spread and standard error are those of its windows' means") {
  TripGroup group;
  for (const double us : {1.0, 2.0, 3.0}) group.add(of_mean(us));
  CHECK(group.mean_us() == Catch::Approx(2));
  CHECK(group.spread() == Catch::Approx(0.5));
  CHECK(group.error() == Catch::Approx(0.5 / std::sqrt(3)));
}

TEST_CASE("what is charged is the mean of the groups of the section that goes on") {
  TripGroups groups;
  for (const double us : {1.0, 3.0}) {
    groups.begin_group();
    groups.last().add(of_mean(us));
  }
  CHECK(groups.mean_us() == Catch::Approx(2));
  groups.begin_group();  // of which nothing was measured before
  groups.begin_section();
  groups.begin_group();
  groups.last().add(of_mean(5));
  CHECK(groups.mean_us() == Catch::Approx(5));
}

TEST_CASE(
    "the interval: windows by chance, groups by how they differ, for as long as trips were passed over") {
  const auto half_width = [](double a, double b, std::uint32_t passed) {
    TripGroups groups;
    for (const double us : {a, b}) {
      groups.begin_group();
      groups.last().add(of_mean(us));
      groups.last().add(of_mean(us));
      groups.last().passed = passed;
    }
    return groups.half_width_windows();
  };
  CHECK(half_width(1, 1, 100) == 0);
  CHECK(half_width(1, 1.1, 0) == 0);
  // Half of the difference of two groups, of their mean.
  CHECK(half_width(1, 1.1, 100) == Catch::Approx(200 * 0.05 / 1.05));

  TripGroups alone;  // t(2) = 4.303 standard errors of three windows
  alone.begin_group();
  for (const double us : {0.9, 1.0, 1.1}) alone.last().add(of_mean(us));
  alone.last().passed = 1000;
  CHECK(alone.half_width_windows() == Catch::Approx(1000 * 4.3027 * 0.1 / std::sqrt(3)).epsilon(1e-3));
}

}  // namespace
}  // namespace tessera::sim
