#include "sim/node/node.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <memory>
#include <string>

#include "sim/core/error.hpp"
#include "sim/fabric/fabric.hpp"

namespace tessera::sim {
namespace {

using models::Compute;
using models::Stage;
using models::TaskGraph;
using models::Transfer;

constexpr models::Copy kWork{128};

struct Played {
  std::vector<TaskTiming> timings;
};

/// Runs the graph with given kernel durations over a fabric in which a message of 1000 B takes 2.6 us.
Played play(const TaskGraph& graph, const std::vector<Time>& durations) {
  FabricSpec s;
  s.node_gb_per_s = 10;
  s.link_latency_ns = 100;
  s.switch_latency_ns = 200;
  s.endpoint_latency_ns = 1000;
  s.packet_bytes = 1000;
  std::vector<std::string> names;
  for (const auto& n : graph.nodes) names.push_back(n.name);
  Played p;
  p.timings.resize(graph.tasks.size());
  const Dependents dependents = dependents_of(graph);
  Fabric fabric{s, names, graph.tasks.size()};
  std::vector<std::unique_ptr<Node>> nodes;
  std::vector<Module*> modules = fabric.modules();
  for (std::uint32_t n = 0; n < graph.nodes.size(); ++n) {
    nodes.push_back(std::make_unique<Node>(("node" + std::to_string(n)).c_str(), n, graph, dependents,
                                           durations, p.timings));
    nodes[n]->to_nic.connect(fabric.nic(n), fabric.endpoint_latency());
    fabric.nic(n).to_node.connect(*nodes[n], fabric.endpoint_latency());
    modules.push_back(nodes[n].get());
  }
  run_to_completion(modules);
  return p;
}

models::Task kernel(std::uint32_t node, std::vector<models::TaskId> after) {
  return {node, 0, -1, Stage::mlp, Compute{kWork, {}}, std::move(after)};
}
models::Task message(std::uint32_t node, std::uint32_t to, std::vector<models::TaskId> after) {
  return {node, 0, -1, Stage::send, Transfer{to, 1000}, std::move(after)};
}

TEST_CASE("a chain runs back to back, across nodes by messages") {
  TaskGraph g;
  g.nodes = {{"a", models::NodeKind::comp}, {"b", models::NodeKind::attn}};
  g.tasks = {kernel(0, {}), kernel(0, {0}), message(0, 1, {1}), kernel(1, {2})};
  const Time us = Time::microseconds(1);
  const Played p = play(g, {3 * us, 4 * us, {}, 5 * us});
  CHECK(p.timings[1].start == 3 * us);
  CHECK(p.timings[2].start == 7 * us);
  CHECK(p.timings[2].end == Time::nanoseconds(9600));
  CHECK(p.timings[3].end == Time::nanoseconds(14'600));
}

TEST_CASE("sends overlap with the compute stream, and the stream keeps its order") {
  TaskGraph g;
  g.nodes = {{"a", models::NodeKind::comp}, {"b", models::NodeKind::comp}};
  g.tasks = {kernel(0, {}), message(0, 1, {0}), kernel(0, {}), kernel(1, {1}), kernel(1, {})};
  const Time us = Time::microseconds(1);
  const Played p = play(g, {us, {}, 10 * us, us, us});
  CHECK(p.timings[2].start == us);  // beside the message
  CHECK(p.timings[1].end == Time::nanoseconds(3600));
  CHECK(p.timings[3].start == Time::nanoseconds(3600));
  CHECK(p.timings[4].start == Time::nanoseconds(4600));  // ready at 0, but second in its stream
}

TEST_CASE("a dependency without a message is refused by name") {
  TaskGraph g;
  g.nodes = {{"a", models::NodeKind::comp}, {"b", models::NodeKind::comp}};
  g.tasks = {kernel(0, {}), kernel(1, {0})};
  CHECK_THROWS_MATCHES(dependents_of(g), std::logic_error,
                       Catch::Matchers::Message("mlp of layer 0 (prefill) on b depends on mlp of layer 0 "
                                                "(prefill) on a without a message between them"));
  g.tasks = {kernel(0, {1}), kernel(0, {})};
  CHECK_THROWS_AS(dependents_of(g), std::logic_error);
}

TEST_CASE("a graph that cannot end names the task that waits") {
  TaskGraph g;
  g.nodes = {{"a", models::NodeKind::comp}, {"b", models::NodeKind::comp}};
  g.tasks = {kernel(0, {}), kernel(0, {0})};
  // Break the promise: a dependency that never completes.
  Dependents dependents = dependents_of(g);
  dependents.local[0].clear();
  std::vector<TaskTiming> timings(2);
  const std::vector<Time> durations(2, Time::microseconds(1));
  Node node{"node", 0, g, dependents, durations, timings};
  try {
    run_to_completion({&node});
    FAIL("no deadlock was reported");
  } catch (const DeadlockError& e) {
    CHECK(std::string{e.what()}.find("mlp of layer 0 (prefill) on a lacks 1") != std::string::npos);
  }
}

}  // namespace
}  // namespace tessera::sim
