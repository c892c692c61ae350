#pragma once
// The layouts of measurement files that can be read, one function each.

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "validate/csv.hpp"
#include "validate/measurement.hpp"

namespace tessera::validate {

/// Each reads a table whose header is of its layout and adds to `into`; false, adding nothing, if it is not.
/// InputError for a bad row.

/// ai-dynamo/aiconfigurator: one kernel a row; `latency` in milliseconds, or `latency_us`.
bool read_aiconfigurator(const CsvTable& table, Measurements& into);
/// Its files of latent attention (MLA).
bool read_aiconfigurator_latent(const CsvTable& table, Measurements& into);
/// The time of a row of one of its files.
double aiconfigurator_us(const CsvRow& row, const CsvTable& table);
/// microsoft/vidur, data/profiling/compute/*/mlp.csv and attention.csv: several kernels a row,
/// `time_stats.NAME.median` in milliseconds.
bool read_vidur(const CsvTable& table, Measurements& into);

/// Turns a kind and its arguments into a row's kind, arguments, operator and launch, as `tessera kernel`
/// does. std::invalid_argument if they are bad, or the kind is one that can never be; std::domain_error for a
/// kind that is known but cannot be simulated yet. Injected: the words of the command line are the command
/// line's.
using ParseKernel = std::function<Measurement(
    const std::string& kind, const std::vector<std::pair<std::string, std::string>>& arguments)>;

/// Nsight Systems' SQLite export of a program that marks its calls with NVTX ranges such as "tessera gemm
/// m=512 n=512 k=512": the kernels launched within one are one call, timed from the first one's start to the
/// last one's end. Of equal ranges the median, without the first one if there are several.
void read_nsys(const std::filesystem::path& file, const ParseKernel& parse, Measurements& into);

/// Tessera's own: one JSON object per line.
/// {"kind": "gemm", "args": {"m": 512, ...}, "latency_us": {"median": 12.5, ...}, "timing": "replay", ...}
void read_jsonl(std::string_view text, const std::filesystem::path& file, const ParseKernel& parse,
                Measurements& into);

}  // namespace tessera::validate
