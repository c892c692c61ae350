#pragma once
// Which source this program was built from.

namespace tessera::cli {

/// As `git describe --always --dirty` names it; "" if it was not built from a repository.
const char* revision();

}  // namespace tessera::cli
