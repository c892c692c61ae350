// The flows of models/cost/schedule.hpp against packets on the same machine.

#include "models/cost/schedule.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <memory>
#include <random>
#include <string>

#include "sim/fabric/fabric.hpp"
#include "sim/node/node.hpp"

namespace tessera::sim {
namespace {

using models::TaskGraph;

struct Case {
  TaskGraph graph;
  std::vector<Time> durations;
};

/// Layers of kernels on every node, messages to random others between them.
Case random_case(unsigned seed, std::size_t nodes, std::size_t layers) {
  std::mt19937 random{seed};
  const auto below = [&](std::size_t n) { return static_cast<std::uint32_t>(random() % n); };
  Case c;
  for (std::size_t n = 0; n < nodes; ++n)
    c.graph.nodes.push_back({"n" + std::to_string(n), models::NodeKind::comp});
  std::vector<std::vector<models::TaskId>> inputs(nodes);
  for (std::size_t l = 0; l < layers; ++l) {
    std::vector<models::TaskId> kernels;
    for (std::uint32_t n = 0; n < nodes; ++n) {
      kernels.push_back(static_cast<models::TaskId>(c.graph.tasks.size()));
      c.graph.tasks.push_back({n, static_cast<std::int32_t>(l), -1, models::Stage::mlp,
                               models::Compute{models::Copy{128}, {}}, std::move(inputs[n])});
      c.durations.push_back(Time::from_us(1 + below(20)));
      inputs[n].clear();
    }
    for (std::uint32_t n = 0; n < nodes; ++n) {
      for (int m = 0; m < 3; ++m) {
        const std::uint32_t to = (n + 1 + below(nodes - 1)) % static_cast<std::uint32_t>(nodes);
        inputs[to].push_back(static_cast<models::TaskId>(c.graph.tasks.size()));
        c.graph.tasks.push_back({n,
                                 static_cast<std::int32_t>(l),
                                 -1,
                                 models::Stage::send,
                                 models::Transfer{to, 20'000 + 1000 * below(400)},
                                 {kernels[n]}});
        c.durations.push_back(Time{});
      }
    }
  }
  return c;
}

double simulated_us(const Case& c, const FabricSpec& spec) {
  std::vector<std::string> names;
  for (const auto& n : c.graph.nodes) names.push_back(n.name);
  std::vector<TaskTiming> timings(c.graph.tasks.size());
  const Dependents dependents = dependents_of(c.graph);
  Fabric fabric{spec, names, c.graph.tasks.size()};
  std::vector<std::unique_ptr<Node>> nodes;
  std::vector<Module*> modules = fabric.modules();
  for (std::uint32_t n = 0; n < c.graph.nodes.size(); ++n) {
    nodes.push_back(std::make_unique<Node>(("node" + std::to_string(n)).c_str(), n, c.graph, dependents,
                                           c.durations, timings));
    nodes[n]->to_nic.connect(fabric.nic(n), fabric.endpoint_latency());
    fabric.nic(n).to_node.connect(*nodes[n], fabric.endpoint_latency());
    modules.push_back(nodes[n].get());
  }
  run_to_completion(modules);
  Time last;
  for (const TaskTiming& t : timings) last = max(last, t.end);
  return last.us();
}

/// Messages are about as long as the buffers: held up for less than flows are taken to be.
void require_near(const Case& c, const FabricSpec& spec, double tolerance) {
  const cost::Schedule s = cost::schedule_tasks(c.graph, spec, c.durations, false);
  Time last;
  for (const Time end : s.end) last = max(last, end);
  CHECK_THAT(last.us(), Catch::Matchers::WithinRel(simulated_us(c, spec), tolerance));
}

FabricSpec spec() {
  FabricSpec s;
  s.node_gb_per_s = 50;
  s.packet_bytes = 4096;
  return s;
}

TEST_CASE("random traffic under one switch takes as long as packet by packet") {
  require_near(random_case(1, 8, 6), spec(), 0.05);
}

TEST_CASE("and with headers, a sender's overhead, and few nodes") {
  FabricSpec s = spec();
  s.header_bytes = 64;
  s.message_overhead_us = 2;
  require_near(random_case(2, 3, 8), s, 0.08);
}

TEST_CASE("and over a core that is narrower than its switches") {
  FabricSpec s = spec();
  s.nodes_per_switch = 3;
  s.uplink_gb_per_s = 60;
  s.core_latency_ns = 5000;
  require_near(random_case(3, 9, 5), s, 0.12);
}

}  // namespace
}  // namespace tessera::sim
