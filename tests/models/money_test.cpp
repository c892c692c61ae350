#include "models/cost/money.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

namespace tessera::cost {
namespace {

using Catch::Matchers::WithinRel;

ManufactureSpec spec() {
  return {.die_mm2 = 800,
          .wafer_usd = 17000,
          .defects_per_cm2 = 0.1,
          .spare_share = 0.5,
          .hbm_usd_per_gb = 15,
          .package_usd = 700,
          .package_yield = 0.95,
          .board_usd = 400,
          .margin = 0.5,
          .server_usd = 10000};
}

TEST_CASE("a die costs its share of the good ones on a wafer") {
  const Capital c = capital_of(spec(), 80e9, {});
  CHECK_THAT(c.dies_per_wafer, WithinRel(64.795, 1e-4));  // 88.357 - 23.562
  CHECK_THAT(c.yield, WithinRel(0.68695, 1e-4));         // (1 + 0.4 / 3)^-3
  CHECK_THAT(c.dies_usd, WithinRel(381.92, 1e-4));
  CHECK_THAT(c.hbm_usd, WithinRel(1200.0, 1e-12));
  CHECK_THAT(c.price_usd, WithinRel(2 * ((c.dies_usd + 1200 + 700) / 0.95 + 400), 1e-12));
}

TEST_CASE("without defects every die is good, and clustered defects leave more of them") {
  ManufactureSpec s = spec();
  s.defects_per_cm2 = 0;
  CHECK(capital_of(s, 0, {}).yield == 1);
  s = spec();
  const double usual = capital_of(s, 0, {}).yield;
  s.defect_clustering = 1;
  CHECK(capital_of(s, 0, {}).yield > usual);
  s.spare_share = 0;
  CHECK(capital_of(s, 0, {}).yield < usual);
}

TEST_CASE("two dies cost twice one, not their area's") {
  ManufactureSpec s = spec();
  const double one = capital_of(s, 0, {}).dies_usd;
  s.dies = 2;
  CHECK_THAT(capital_of(s, 0, {}).dies_usd, WithinRel(2 * one, 1e-12));
  s.dies = 1;
  s.die_mm2 = 1600;
  CHECK(capital_of(s, 0, {}).dies_usd > 2 * one);
}

TEST_CASE("an hour's share of capital pays it back with interest") {
  Ownership o{.years = 4, .interest = 0, .utilization = 1};
  const Capital c = capital_of(spec(), 80e9, o);
  CHECK_THAT(c.usd_per_hour * 4 * 8760, WithinRel(c.price_usd + 10000, 1e-12));
  o.interest = 0.08;
  CHECK_THAT(capital_of(spec(), 80e9, o).usd_per_hour / c.usd_per_hour, WithinRel(4 * 0.30192, 1e-4));
  o.utilization = 0.5;
  CHECK_THAT(capital_of(spec(), 80e9, o).usd_per_hour / c.usd_per_hour, WithinRel(8 * 0.30192, 1e-4));
  CHECK_THAT(energy_usd(3.6e6, {.usd_per_kwh = 0.1, .pue = 1.2}), WithinRel(0.12, 1e-12));
}

TEST_CASE("a die larger than the wafer is refused") {
  ManufactureSpec s = spec();
  s.die_mm2 = 60000;
  CHECK_THROWS_WITH(capital_of(s, 0, {}), Catch::Matchers::ContainsSubstring("60000 mm2"));
}

}  // namespace
}  // namespace tessera::cost
