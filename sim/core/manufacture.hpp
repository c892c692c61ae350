#pragma once
// What a GPU is made of and what its parts cost, as plain data: `manufacture` in configs/hardware/*.yaml.
// Input of the model of capital cost (models/cost/money.hpp). Nearly all of it is estimated: no vendor
// publishes it.

namespace tessera {

struct ManufactureSpec {
  int dies = 1;                  ///< logic dies in the package, all alike
  double die_mm2 = 0;            ///< 0: not stated, and the capital cost is not known
  double wafer_usd = 0;          ///< a processed wafer
  double wafer_mm = 300;         ///< its diameter
  double defects_per_cm2 = 0;    ///< fatal where they fall on logic that has no spare
  double defect_clustering = 3;  ///< alpha of the negative binomial yield
  double spare_share = 0;        ///< of the die: defects there are worked round with spare units
  double hbm_usd_per_gb = 0;     ///< of 10^9 bytes
  double package_usd = 0;        ///< interposer, substrate, assembly and test
  double package_yield = 1;      ///< of assembly; what fails takes its dies and memory with it
  double board_usd = 0;          ///< module, voltage regulators, heat sink
  double margin = 0;             ///< of the vendor: share of the selling price
  double server_usd = 0;         ///< a GPU's share of host, NICs, switches and rack
};

}  // namespace tessera
