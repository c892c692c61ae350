#pragma once
// Requests as lines of a trace.

#include <string>

#include "traces/requests/reader.hpp"

namespace tessera::traces {

/// The line in front of all requests; "" if the format has none. Only mooncake and csv are written.
std::string header_of(RequestFormat format, bool blocks);
/// Ends with a line feed. `blocks`: with names of blocks.
std::string line_of(RequestFormat format, const Request& request, bool blocks);

}  // namespace tessera::traces
