#pragma once
// Chart.js, for pages that need nothing from elsewhere.

#include <string>

namespace tessera::cli {

/// Its text. TESSERA_CHART_JS names another file than Debian's. UsageError, begun with `option`, if there is
/// none.
std::string chart_library(const std::string& option);

}  // namespace tessera::cli
