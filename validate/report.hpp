#pragma once
// A comparison as JSON (docs/json.md) and as a page with plots.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "validate/comparison.hpp"
#include "validate/statistics.hpp"

namespace tessera::validate {

nlohmann::ordered_json to_json(const Errors& errors);
nlohmann::ordered_json to_json(const Comparison& comparison, const GpuSpec& gpu, const std::string& fidelity,
                               double wall_s);

/// Where Debian and Ubuntu put the plotting library (package libjs-chart.js).
inline constexpr const char* kChartLibrary = "/usr/share/javascript/chart.js/chart.min.js";

/// JSON that may stand inside a script element.
std::string in_script(const nlohmann::ordered_json& json);

/// One page that needs nothing from elsewhere: measured against predicted, error by size, and the roofline.
/// `library` is the text of Chart.js, which becomes part of the page.
std::string to_html(const Comparison& comparison, const GpuSpec& gpu, const std::string& library);

}  // namespace tessera::validate
