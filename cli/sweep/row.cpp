#include "cli/sweep/row.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace tessera::cli {

std::size_t metric_index(std::string_view name) {
  const auto* at = std::find(kMetrics.begin(), kMetrics.end(), name);
  if (at == kMetrics.end()) throw std::out_of_range{fmt::format("no metric is called '{}'", name)};
  return static_cast<std::size_t>(at - kMetrics.begin());
}

std::string to_text(const Row& row) {
  Json metrics = Json::array();
  for (const auto& m : row.metrics) metrics.push_back(m ? Json(*m) : Json());
  return Json({{"id", row.id},
               {"fidelity", row.fidelity},
               {"axes", row.axes},
               {"hash", row.config_hash},
               {"status", row.status},
               {"error", row.error},
               {"wall_s", row.wall_s},
               {"bottleneck", row.bottleneck},
               {"metrics", std::move(metrics)},
               {"stages", row.stages}})
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

Row row_from(const std::string& text) {
  const Json json = Json::parse(text);
  Row row{.id = json.at("id"),
          .fidelity = json.at("fidelity"),
          .axes = json.at("axes"),
          .config_hash = json.at("hash"),
          .status = json.at("status"),
          .error = json.at("error"),
          .wall_s = json.at("wall_s"),
          .bottleneck = json.at("bottleneck")};
  for (std::size_t i = 0; i < kMetricCount; ++i) {
    if (const Json& m = json.at("metrics").at(i); !m.is_null()) row.metrics[i] = m.get<double>();
  }
  row.stages = json.at("stages");
  return row;
}

}  // namespace tessera::cli
