#pragma once
// A recorded execution run again, with the kernels and collectives that we know at our prices.

#include <functional>
#include <string>
#include <vector>

#include "sim/core/hardware.hpp"
#include "traces/operators/operator_trace.hpp"

namespace tessera::traces {

/// What an operator costs, in us; throws std::invalid_argument for one that no kernel supports.
using OperatorPrice = std::function<double(const models::Operator&)>;

/// A collective by rings: steps of latency, and the bytes that cross each GPU's port. all_reduce 2 (n - 1)
/// steps and 2 (n - 1) / n of the bytes; all_gather n - 1 and (n - 1) times what one puts in; reduce_scatter
/// and all_to_all n - 1 and (n - 1) / n; broadcast and send_recv once. [Thakur et al., IJHPCA 2005, section
/// 3]
double collective_us(const Collective& collective, const FabricSpec& fabric);

struct Coverage {
  std::int64_t nodes = 0;
  double recorded_us = 0, replayed_us = 0;
};

struct OperatorReplay {
  double recorded_us = 0;  ///< the trace's length with every recorded duration
  double replayed_us = 0;
  Coverage operators;    ///< kernels that are priced; further kernels of the same operator included
  Coverage collectives;  ///< priced
  Coverage fixed;        ///< kernels, copies and collectives as recorded
  Coverage host;         ///< as recorded
  struct Name {
    std::string name;
    std::int64_t nodes = 0;
    double recorded_us = 0;
  };
  std::vector<Name> largest_fixed;  ///< by recorded time, at most 10
};

/// `fabric` null: collectives as recorded.
OperatorReplay replay_operators(const OperatorTrace& trace, const OperatorPrice& price,
                                const FabricSpec* fabric);

}  // namespace tessera::traces
