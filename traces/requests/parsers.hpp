#pragma once
// The parsers of each format. Each throws std::runtime_error for what it cannot read.

#include <memory>
#include <string_view>

#include "traces/requests/reader.hpp"

namespace tessera::traces {

inline constexpr std::int64_t kMooncakeBlockTokens = 512;  // kvcache-ai/Mooncake, FAST25-release/README
inline constexpr std::int64_t kMostTokens = 1'000'000'000;
inline constexpr std::int64_t kMostSeconds = 100LL * 366 * 24 * 3600;

std::unique_ptr<RequestParser> mooncake_parser();
/// From the header's line. Null if it is none of this format.
std::unique_ptr<RequestParser> azure_parser(std::string_view header);
std::unique_ptr<RequestParser> burstgpt_parser(std::string_view header);
std::unique_ptr<RequestParser> csv_parser(std::string_view header);

/// "2023-11-16 18:15:46.6805900", also with T, and with Z or +hh:mm at the end: ns since 1970.
std::int64_t parse_date(std::string_view text);
/// Seconds with at most nine decimals that count, not negative: ns, without rounding through a double.
std::int64_t parse_seconds(std::string_view column, std::string_view text);
std::int64_t parse_tokens(std::string_view column, std::string_view text, std::int64_t least);

}  // namespace tessera::traces
