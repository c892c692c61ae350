#include "sim/gpu/power.hpp"

#include <algorithm>
#include <cmath>

namespace tessera::sim {

namespace {
constexpr double kStepMhz = 15;  // NVIDIA's clock table
}

double voltage_scale(const PowerSpec& power, double boost_mhz, double clock_mhz) {
  return std::pow(clock_mhz / boost_mhz, power.voltage_exponent);
}

double sustained_clock_mhz(const PowerSpec& power, double boost_mhz, const PowerSample& sample) {
  const auto watts = [&](double mhz) {
    const double r = mhz / sample.clock_mhz;
    return power.idle_w + sample.sm_w * std::pow(r, 1 + power.voltage_exponent) + sample.memory_w * r;
  };
  double mhz = boost_mhz;
  while (mhz - kStepMhz >= power.min_clock_mhz && watts(mhz) > power.cap_w) mhz -= kStepMhz;
  return mhz;
}

}  // namespace tessera::sim
