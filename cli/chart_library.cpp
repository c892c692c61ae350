#include "cli/chart_library.hpp"

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "cli/command.hpp"
#include "validate/report.hpp"

namespace tessera::cli {

std::string chart_library(const std::string& option) {
  const char* given = std::getenv("TESSERA_CHART_JS");
  const std::string file = given != nullptr && *given != '\0' ? given : validate::kChartLibrary;
  std::ifstream in{file, std::ios::binary};
  std::string text{std::istreambuf_iterator<char>{in}, {}};
  if (!in || text.empty())
    throw UsageError{
        fmt::format("{} needs Chart.js, and {} cannot be read: install the package "
                    "libjs-chart.js, or set TESSERA_CHART_JS to a chart.min.js of version 3",
                    option, file)};
  return text;
}

}  // namespace tessera::cli
