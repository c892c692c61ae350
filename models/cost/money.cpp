#include "models/cost/money.hpp"

#include <fmt/format.h>

#include <cmath>
#include <numbers>
#include <stdexcept>

namespace tessera::cost {

Capital capital_of(const ManufactureSpec& m, double hbm_bytes, const Ownership& o) {
  Capital c;
  const double area = m.die_mm2;
  c.dies_per_wafer = std::numbers::pi * m.wafer_mm * m.wafer_mm / (4 * area) -
                     std::numbers::pi * m.wafer_mm / std::sqrt(2 * area);
  if (!(area > 0) || c.dies_per_wafer < 1)
    throw std::invalid_argument{fmt::format("no die of {} mm2 fits on a wafer of {} mm", area, m.wafer_mm)};
  c.yield = std::pow(1 + (1 - m.spare_share) * area / 100 * m.defects_per_cm2 / m.defect_clustering,
                     -m.defect_clustering);
  c.dies_usd = m.dies * m.wafer_usd / (c.dies_per_wafer * c.yield);
  c.hbm_usd = hbm_bytes * 1e-9 * m.hbm_usd_per_gb;
  const double parts = c.dies_usd + c.hbm_usd;
  c.package_usd = (parts + m.package_usd) / m.package_yield - parts;
  c.board_usd = m.board_usd;
  c.price_usd = (parts + c.package_usd + c.board_usd) / (1 - m.margin);
  const double annuity = o.interest > 0 ? o.interest / (1 - std::pow(1 + o.interest, -o.years)) : 1 / o.years;
  c.usd_per_hour = (c.price_usd + m.server_usd) * annuity / (8760 * o.utilization);
  return c;
}

double energy_usd(double joules, const Ownership& o) { return joules * o.pue * o.usd_per_kwh / 3.6e6; }

}  // namespace tessera::cost
