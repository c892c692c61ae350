// NVML, by a library that stands in for it.

#include "validate/measure/nvml.hpp"

#include <catch2/catch_test_macros.hpp>

namespace tessera::measure {

TEST_CASE("NVML tells clocks, power, temperature, ECC and versions of the GPU at an address") {
  const auto nvml = Nvml::open("0000:3b:00.0");
  REQUIRE(nvml != nullptr);
  const auto sensors = nvml->sensors();
  REQUIRE(sensors.has_value());
  CHECK(sensors->sm_mhz == 1001);
  CHECK(sensors->memory_mhz == 1002);
  CHECK(sensors->power_w == 345.678);
  CHECK(sensors->temperature_c == 47);
  CHECK(nvml->ecc() == true);
  CHECK(nvml->power_limit_w() == 700);
  CHECK(nvml->driver() == "580.65.06");
}

TEST_CASE("a GPU that NVML does not know has no sensors") { CHECK(Nvml::open("0000:00:00.0") == nullptr); }

}  // namespace tessera::measure
