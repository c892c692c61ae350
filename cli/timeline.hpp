#pragma once
// Timelines in the Trace Event JSON format that Perfetto (ui.perfetto.dev) and chrome://tracing read:
// a process per node, tracks for its compute stream and its link in each direction, counters for utilisation.

#include <string>

#include "models/dataflow/task_graph.hpp"
#include "sim/gpu/kernel_run.hpp"
#include "sim/system/machine.hpp"

namespace tessera::cli {

/// The whole run. Messages that overlap on a link get a track each ("link out 1", "link out 2", ...).
std::string run_timeline(const models::TaskGraph& graph, const sim::RunResult& run);

/// One kernel: a slice, and a counter per track of KernelResult::activity.
std::string kernel_timeline(const std::string& title, const sim::KernelResult& result);

}  // namespace tessera::cli
