#include "validate/report.hpp"

#include "validate/replay.hpp"

namespace tessera::validate {

namespace {

using Json = nlohmann::ordered_json;

Json place_of(const Measurement& row) {
  Json json{{"file", row.file.string()}, {"line", row.line}, {"kind", row.kind}};
  json["args"] = Json::object();
  for (const auto& [key, value] : row.arguments) json["args"][key] = value;
  return json;
}

/// The roles of the operands that lay in the L2 at the start.
Json warm_of(const Compared& c, const GpuSpec& gpu) {
  Json roles = Json::array();
  const auto operands = models::operands_of(c.row.op);
  for (const std::uint32_t i : options_of(c.row, gpu).warm_operands) roles.push_back(operands.at(i).role);
  return roles;
}

Json json_of(const Compared& c, const GpuSpec& gpu) {
  Json json = place_of(c.row);
  json["measured_us"] = c.row.measured_us;
  json["predicted_us"] = c.predicted_us;
  json["error_percent"] = c.error_percent();
  json["execution_us"] = c.result.execution.us();
  json["clock_mhz"] = c.result.clock_mhz;
  json["bottleneck"] = c.result.bottleneck;
  json["utilization"] = c.result.utilization;
  json["flops"] = c.result.flops;
  json["min_bytes"] = models::min_bytes_of(c.row.op);
  json["l2_bytes"] = c.result.l2_bytes;
  json["hbm_bytes"] = c.result.hbm_read_bytes + c.result.hbm_write_bytes;
  json["warm"] = warm_of(c, gpu);
  json["kernels"] = c.result.kernels;
  return json;
}

}  // namespace

Json to_json(const Errors& e) {
  return {{"count", e.count},
          {"mape_percent", e.mape_percent},
          {"median_ape_percent", e.median_ape_percent},
          {"p90_ape_percent", e.p90_ape_percent},
          {"max_ape_percent", e.max_ape_percent},
          {"bias_percent", e.bias_percent}};
}

Json to_json(const Comparison& comparison, const GpuSpec& gpu, const std::string& fidelity, double wall_s) {
  Json json;
  json["hardware"] = gpu.name;
  json["fidelity"] = fidelity;
  json["calibration"] = gpu.calibration;
  json["wall_s"] = wall_s;
  json["simulated"] = comparison.simulated;
  for (const char* key : {"kinds", "groups", "files"}) json[key] = Json::object();
  for (const Group& g : by_kind(comparison)) json["kinds"][g.name] = to_json(errors_of(g.rows));
  for (const Group& g : quoted_groups(comparison)) {
    json["groups"][g.name] = to_json(errors_of(g.rows));
    json["groups"][g.name]["meaning"] = g.meaning;
  }
  for (const Group& g : by_file(comparison)) json["files"][g.name] = to_json(errors_of(g.rows));
  for (const char* key : {"rows", "skipped", "failed"}) json[key] = Json::array();
  for (const Compared& c : comparison.rows) json["rows"].push_back(json_of(c, gpu));
  for (const Skipped& s : comparison.skipped) {
    json["skipped"].push_back(
        {{"file", s.file.string()}, {"kind", s.kind}, {"count", s.count}, {"reason", s.reason}});
  }
  for (const Comparison::Failed& f : comparison.failed) {
    json["failed"].push_back(place_of(f.row));
    json["failed"].back()["reason"] = f.reason;
  }
  return json;
}

}  // namespace tessera::validate
