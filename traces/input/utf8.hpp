#pragma once
// Whether bytes are UTF-8.

#include <cstddef>
#include <string_view>

namespace tessera::traces {

/// The offset of the first byte that is no part of well-formed UTF-8 (RFC 3629), or npos.
std::size_t first_bad_utf8(std::string_view text);

}  // namespace tessera::traces
