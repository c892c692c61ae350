#pragma once
// The nodes of a trace of operators, for `tessera trace head` and `convert`.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace tessera::cli {

/// The first `lines` nodes as a table.
std::string head_of_operators(const std::string& file, std::int64_t lines);

/// Every node as CSV: node,kind,recorded_us,delay_us,after,operator,name. `after`: the nodes it waited for,
/// apart by spaces; `delay_us`: from the last one's end to its start; `operator`: as we know it, of a
/// further kernel of one "part of node N". Returns how many.
std::int64_t convert_operators(const std::string& file, const std::function<void(std::string_view)>& write);

}  // namespace tessera::cli
