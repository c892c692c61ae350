#pragma once
// Rows of fused mixture-of-experts layers.

#include "validate/csv.hpp"
#include "validate/measurement.hpp"

namespace tessera::validate {

/// A row of aiconfigurator's moe file, as its collector/vllm/collect_moe.py runs it: the first of
/// `moe_ep_size` nodes, which under power_law is the one with the most rows, called with all `num_tokens`
/// tokens, of which the rows of other nodes' experts are left out. power_law rows are the mean of five calls
/// in one graph, each with loads of its own.
Measurement moe_row(const CsvRow& row);

}  // namespace tessera::validate
