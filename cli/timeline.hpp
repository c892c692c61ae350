#pragma once
// Timelines in the Trace Event JSON format that Perfetto (ui.perfetto.dev) and chrome://tracing read:
// a process per node, with a track of slices for its compute stream and its messages in each direction and
// counters for each GPC (an SM group), HBM, L2 and more; and a process "fabric" with a counter per link.
//
// The file's size is bounded. Where a run is too long to be drawn whole, counters become means over intervals
// and the slices of later decode steps are left out; the file's "otherData" says so.

#include <string>

#include "models/dataflow/task_graph.hpp"
#include "sim/gpu/kernel_run.hpp"
#include "sim/system/machine.hpp"

namespace tessera::cli {

/// The whole run. A message is drawn at both ends, from when its node hands it to the NIC to its last byte's
/// arrival; those that overlap get a track each ("link out 1", "link out 2", ...).
std::string run_timeline(const models::TaskGraph& graph, const sim::RunResult& run);

/// One kernel: a slice and the same counters.
std::string kernel_timeline(const std::string& title, const sim::KernelResult& result);

}  // namespace tessera::cli
