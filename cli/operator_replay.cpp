#include "cli/operator_replay.hpp"

#include <fmt/format.h>

#include <filesystem>

#include "models/cost/cost_model.hpp"
#include "traces/operators/readers.hpp"
#include "traces/operators/replay.hpp"

namespace tessera::cli {

namespace {

Json coverage(const traces::Coverage& c) {
  return {{"nodes", c.nodes}, {"recorded_us", c.recorded_us}, {"replayed_us", c.replayed_us}};
}

}  // namespace

bool is_operator_trace(const std::string& file, const std::string& format) {
  if (format == "chakra" || format == "kineto") return true;
  if (format != "auto") return false;
  if (std::filesystem::path{file}.extension() == ".et") return true;
  if (traces::operator_format(file) != traces::OperatorFormat::kineto) return false;
  // A Chrome trace is one JSON value; JSON lines have a whole object on the first.
  const auto source = traces::open_file(file);
  const std::string_view begin = source->read();
  return begin.substr(0, 4096).find("traceEvents") != std::string_view::npos ||
         begin.find_first_not_of(" \t\r\n") == begin.find('[') ||
         begin.substr(0, begin.find('\n')).find('}') == std::string_view::npos;
}

Json operator_replay(const std::string& file, const GpuSpec& gpu, const FabricSpec* fabric) {
  const traces::OperatorTrace trace = traces::read_operators(file);
  cost::CostModel model{gpu};
  const auto price = [&](const models::Operator& op) { return model.cost(op, {}).latency_us; };
  const traces::OperatorReplay r = traces::replay_operators(trace, price, fabric);
  const double device_us = r.operators.recorded_us + r.collectives.recorded_us + r.fixed.recorded_us;
  Json json{{"hardware", gpu.name},
            {"nodes", trace.nodes.size()},
            {"recorded_us", r.recorded_us},
            {"replayed_us", r.replayed_us},
            {"coverage_share",
             device_us > 0 ? (r.operators.recorded_us + r.collectives.recorded_us) / device_us : 0},
            {"operators", coverage(r.operators)},
            {"collectives", coverage(r.collectives)},
            {"fixed", coverage(r.fixed)},
            {"host", coverage(r.host)},
            {"largest_fixed", Json::array()}};
  for (const auto& n : r.largest_fixed)
    json["largest_fixed"].push_back({{"name", n.name}, {"nodes", n.nodes}, {"recorded_us", n.recorded_us}});
  return json;
}

std::string lines_of(const Json& json, const std::string& prefix) {
  std::string text;
  for (const auto& [key, value] : json.items()) {
    const std::string name = prefix.empty() ? key : prefix + "." + key;
    if (value.is_object()) {
      text += lines_of(value, name);
    } else {
      text += fmt::format("  {:<28}{}\n", name,
                          value.is_string()         ? value.get<std::string>()
                          : value.is_number_float() ? fmt::format("{:.6g}", value.get<double>())
                                                    : value.dump());
    }
  }
  return text;
}

}  // namespace tessera::cli
