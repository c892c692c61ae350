#include "cli/revision.hpp"

#include "tessera_revision.hpp"

namespace tessera::cli {

const char* revision() { return TESSERA_REVISION; }

}  // namespace tessera::cli
