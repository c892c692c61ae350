#pragma once
// Timelines for Perfetto (ui.perfetto.dev): its protobuf format if the file's name ends in .pftrace, a value
// change dump for GTKWave if in .vcd, else the Trace Event JSON format, which chrome://tracing reads too: a
// process per node, with a track of slices for its compute stream and its messages in each direction and
// counters for each GPC (an SM group), HBM, L2 and more; and a process "fabric" with a counter per link.
//
// The file's size is bounded. Where a run is too long to be drawn whole, counters become means over intervals
// and the slices of later decode steps are left out; the file's "otherData" says so.

#include <functional>
#include <string>

#include "models/dataflow/task_graph.hpp"
#include "sim/gpu/kernel_run.hpp"
#include "sim/system/machine.hpp"
#include "traces/timelines/timeline.hpp"

namespace tessera::sim {
struct Recording;
}

namespace tessera::cli {

/// How much a timeline may hold at most.
struct Detail {
  std::size_t slices = 400'000;  ///< beyond this, later decode steps are left out
  std::size_t points = 300'000;  ///< of counters: beyond this, means over intervals
};
/// `factor` times what a file of that name usually holds (--timeline-detail): .pftrace ten times as much as
/// JSON.
Detail detail_of(const std::string& file, double factor);

/// Draws into `file`, in the format that its name asks for; a .pftrace is written as it is drawn. Throws
/// std::runtime_error naming the file if it cannot be written.
void write_timeline(const std::string& file, const std::function<void(traces::Timeline&)>& draw);

/// The whole run, and beside it what was recorded of one kernel (RunResult::recording), where it first ran:
/// the warp roles of one SM and the HBM's pseudo-channels, with a quarter as many slices and points. A
/// message is drawn at both ends, from when its node hands it to the NIC to its last byte's arrival; those
/// that overlap get a track each ("link out 1", "link out 2", ...). An arrow joins the two. Throws
/// std::runtime_error naming the file if it cannot be written.
void write_run_timeline(const std::string& file, const models::TaskGraph& graph, const sim::RunResult& run,
                        const Detail& detail);

/// The same as the text of a JSON file of the usual detail.
std::string run_timeline(const models::TaskGraph& graph, const sim::RunResult& run);

/// One kernel: a slice and the same counters; a process with a track for each warp role of the CTAs on the
/// first SM; and one with a counter for each pseudo-channel of the HBM.
void write_kernel_timeline(const std::string& file, const std::string& title, const sim::KernelResult& result,
                           const sim::Recording& recording, const Detail& detail);

}  // namespace tessera::cli
