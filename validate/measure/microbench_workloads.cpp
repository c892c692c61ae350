// Microbenchmarks: a figure instead of a time.

#include <stdexcept>

#include "configs/reader/document.hpp"
#include "kernels/microbench/probes.hpp"
#include "validate/measure/kinds.hpp"
#include "validate/measure/operands.hpp"

namespace tessera::measure {

namespace {

const cuda::Probe& probe_of(const std::string& name) {
  std::vector<std::string> names;
  for (const cuda::Probe& probe : cuda::probes()) {
    if (probe.name == name) return probe;
    names.emplace_back(probe.name);
  }
  const std::string near = config::nearest(name, names);
  throw std::invalid_argument{"microbench: no probe is called '" + name + "'" +
                              (near.empty() ? "" : "; did you mean '" + near + "'?")};
}

Workload microbench(const Arguments& a, const Target& target) {
  const cuda::Probe& probe = probe_of(a.text("name"));
  if (probe.needs_hopper && target.compute_capability != 90)
    throw NotMeasured{std::string{probe.name} + ": needs compute capability 9.0"};
  Workload w{.implementation = "Tessera probe"};
  w.emulable = false;
  w.least_warm_up_ms = probe.least_warm_up_ms;
  w.operands = {{"memory", Element::i32, probe.bytes / 4, {.kind = Fill::Kind::zeros}},
                {"cycles", Element::f32, 2, {.kind = Fill::Kind::zeros}}};
  const std::int64_t in_flight = a.integer("in_flight_bytes");
  const auto call = [=, sms = target.sms](const Call& c) {
    return cuda::ProbeCall{
        .memory = c.at[0], .cycles = as<float>(c.at[1]), .sms = sms, .in_flight_bytes = in_flight};
  };
  const std::string name = probe.name;
  w.prepare = [=](const Call& c) { cuda::launch_probe_setup(name, call(c), c.stream); };
  w.stages = {{name, [=](const Call& c) { cuda::launch_probe(name, call(c), c.stream); }}};
  w.graph = name != "launch_host";
  w.figure = std::make_shared<const Figure>(Figure{.unit = probe.unit,
                                                   .amount = probe.amount,
                                                   .rate = probe.rate,
                                                   .unit_scale = probe.unit_scale,
                                                   .from_cycles = probe.from_cycles});
  if (!probe.from_cycles && probe.rate) w.min_bytes = probe.amount;
  return w;
}

}  // namespace

std::vector<MeasuredKind> microbench_kinds() {
  return {{"microbench", {{"name"}, {"in_flight_bytes", "65536"}}, microbench, {}}};
}

}  // namespace tessera::measure
