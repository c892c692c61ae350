#pragma once
// Traces of selected blocks and of routed tokens, for `tessera trace` (docs/traces/selections.md).

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/output.hpp"

namespace tessera::cli {

/// Whether a file is a recorded selection or routing: said by --format (selection, routing), or told by the
/// key of its first line, or the mark of the binary form.
bool is_recorded(const std::string& file, const std::string& format);

/// By layer: how much there is, and how uneven. Throws UsageError naming file and place for what is wrong, or
/// counts it.
Json describe_recorded(const std::string& file, bool skip_bad);
/// The header and the first `lines` records, as a table.
std::string head_of_recorded(const std::string& file, std::int64_t lines);

struct RecordedCheck {
  std::string kind;  ///< "selection", "binary routing"
  std::int64_t records = 0, bad = 0;
  std::vector<std::string> first;  ///< the first complaints
};
/// Reads all of it, and goes on behind what is wrong; throws UsageError if the header is.
RecordedCheck check_recorded(const std::string& file);

/// Records as `to`: "jsonl", "binary", or "csv" (layer[,head],first_token,end_token,blocks or experts, these
/// apart by spaces). Returns how many. What is wrong ends it with UsageError, or is counted into `bad` if
/// that is not null.
std::int64_t convert_recorded(const std::string& file, const std::string& to,
                              const std::function<void(std::string_view)>& write, std::int64_t* bad);

}  // namespace tessera::cli
