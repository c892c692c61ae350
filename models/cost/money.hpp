#pragma once
// What a GPU costs to make, to buy and to keep for an hour. Closed form; A the die's area, d the wafer's
// diameter:
//
//   dies per wafer   N = pi d^2 / (4 A) - pi d / sqrt(2 A)              [de Vries, IEEE TSM 18(1), 2005, eq.
//   2] yield            Y = (1 + (1 - spare) A D0 / alpha)^-alpha          [Stapper, IBM J. R&D 27(6), 1983]
//   package          (dies wafer_usd / (N Y) + hbm + package_usd) / package_yield
//   price            (package + board) / (1 - margin)
//   per hour         (price + server) a / (8760 utilization),  a = i / (1 - (1 + i)^-years)  (i = 0: 1 /
//   years) energy           J pue usd_per_kwh / 3.6e6

#include "sim/core/manufacture.hpp"

namespace tessera::cost {

/// How a machine is owned: `money` of an experiment.
struct Ownership {
  double years = 4;          ///< until it is written off
  double interest = 0.08;    ///< a year
  double utilization = 0.7;  ///< share of the hours in which it is paid for
  double usd_per_kwh = 0.08;
  double pue = 1.25;  ///< power of the building over that of the machine
};

/// Of one GPU, in USD.
struct Capital {
  double dies_per_wafer = 0, yield = 0;
  double dies_usd = 0, hbm_usd = 0, package_usd = 0,
         board_usd = 0;     ///< parts; `package_usd` with assembly's losses
  double price_usd = 0;     ///< with the vendor's margin
  double usd_per_hour = 0;  ///< with its share of a server, without energy
};

/// Throws std::invalid_argument if the die does not fit on the wafer. `hbm_bytes`: the capacity.
Capital capital_of(const ManufactureSpec& spec, double hbm_bytes, const Ownership& ownership);

double energy_usd(double joules, const Ownership& ownership);

}  // namespace tessera::cost
