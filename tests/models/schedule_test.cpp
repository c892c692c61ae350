#include "models/cost/schedule.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

namespace tessera::cost {
namespace {

using Catch::Matchers::WithinRel;
using models::Stage;
using models::TaskGraph;

/// 10 GB/s, packets of 1000 B: a message of 1000 B alone takes 2.6 us, each further 1000 B 0.1 us.
FabricSpec fabric() {
  FabricSpec s;
  s.node_gb_per_s = 10;
  s.link_latency_ns = 100;
  s.switch_latency_ns = 200;
  s.endpoint_latency_ns = 1000;
  s.packet_bytes = 1000;
  return s;
}

TaskGraph nodes(std::size_t n) {
  TaskGraph g;
  for (std::size_t i = 0; i < n; ++i) g.nodes.push_back({"n" + std::to_string(i), models::NodeKind::comp});
  return g;
}
models::Task kernel(std::uint32_t node, std::vector<models::TaskId> after) {
  return {node, 0, -1, Stage::mlp, models::Compute{models::Copy{128}, {}}, std::move(after)};
}
models::Task message(std::uint32_t node, std::uint32_t to, std::int64_t bytes,
                     std::vector<models::TaskId> after = {}) {
  return {node, 0, -1, Stage::send, models::Transfer{to, bytes}, std::move(after)};
}
double end_us(const Schedule& s, std::size_t task) { return s.end[task].us(); }

TEST_CASE("a chain runs back to back, across nodes by messages") {
  TaskGraph g = nodes(2);
  g.tasks = {kernel(0, {}), kernel(0, {0}), message(0, 1, 1000, {1}), kernel(1, {2})};
  const Time us = Time::microseconds(1);
  const Schedule s = schedule_tasks(g, fabric(), {3 * us, 4 * us, {}, 5 * us}, false);
  CHECK(s.start[1] == 3 * us);
  CHECK(s.start[2] == 7 * us);
  CHECK(s.end[2] == Time::nanoseconds(9600));
  CHECK(s.end[3] == Time::nanoseconds(14'600));
  CHECK(s.bytes_out == std::vector<std::int64_t>{1000, 0});
  CHECK(s.bytes_in == std::vector<std::int64_t>{0, 1000});
}

TEST_CASE("messages of a node share its port, messages to a node the other end") {
  const double alone = 2.5 + 10;  // 100 kB
  SECTION("alone") {
    TaskGraph g = nodes(3);
    g.tasks = {message(0, 1, 100'000)};
    CHECK_THAT(end_us(schedule_tasks(g, fabric(), {{}}, false), 0), WithinRel(alone, 1e-9));
  }
  SECTION("one sender") {
    TaskGraph g = nodes(3);
    g.tasks = {message(0, 1, 100'000), message(0, 2, 100'000)};
    const Schedule s = schedule_tasks(g, fabric(), {{}, {}}, true);
    CHECK_THAT(end_us(s, 0), WithinRel(alone + 10, 1e-9));
    CHECK_THAT(end_us(s, 1), WithinRel(alone + 10, 1e-9));
    REQUIRE(s.links[0].spans.size() == 1);
    CHECK_THAT(s.links[0].spans[0].share, WithinRel(1.0, 1e-9));
  }
  SECTION("one receiver") {
    TaskGraph g = nodes(3);
    g.tasks = {message(0, 2, 100'000), message(1, 2, 100'000)};
    CHECK_THAT(end_us(schedule_tasks(g, fabric(), {{}, {}}, false), 1), WithinRel(alone + 10, 1e-9));
  }
  SECTION("a short one leaves the rest to the long one") {
    TaskGraph g = nodes(3);
    g.tasks = {message(0, 1, 100'000), message(0, 2, 10'000)};
    const Schedule s = schedule_tasks(g, fabric(), {{}, {}}, false);
    CHECK_THAT(end_us(s, 1), WithinRel(2.5 + 2, 1e-9));
    CHECK_THAT(end_us(s, 0), WithinRel(alone + 1, 1e-9));
  }
  SECTION("what waits for a crowded receiver holds up what its sender has for others") {
    TaskGraph g = nodes(5);  // 0, 1, 2 to 3; 0 also to 4
    g.tasks = {message(0, 3, 100'000), message(1, 3, 100'000), message(2, 3, 100'000),
               message(0, 4, 100'000)};
    const Schedule s = schedule_tasks(g, fabric(), {{}, {}, {}, {}}, false);
    CHECK_THAT(end_us(s, 3), WithinRel(alone + 20, 1e-9));
  }
  SECTION("what one cannot take, the others have") {
    TaskGraph g = nodes(5);  // 0 has two messages: half a port each; 1 has the other half of node 2
    g.tasks = {message(0, 2, 100'000), message(0, 3, 100'000), message(0, 4, 100'000),
               message(1, 2, 100'000)};
    const Schedule s = schedule_tasks(g, fabric(), {{}, {}, {}, {}}, false);
    CHECK_THAT(end_us(s, 3), WithinRel(2.5 + 15, 1e-9));
  }
}

TEST_CASE("a narrow way up is shared by the switch's nodes") {
  FabricSpec f = fabric();
  f.nodes_per_switch = 2;
  f.uplink_gb_per_s = 10;
  TaskGraph g = nodes(4);
  g.tasks = {message(0, 2, 100'000), message(1, 3, 100'000)};
  const Schedule s = schedule_tasks(g, f, {{}, {}}, false);
  // Two more switches to cross, each a hop, forwarding and a packet.
  CHECK_THAT(end_us(s, 0), WithinRel(2.5 + 20 + 2 * (0.1 + 0.2 + 0.1), 1e-9));
  CHECK(s.links.size() == 4 * 2 + 2 * 2);
}

TEST_CASE("what never can run is named") {
  TaskGraph g = nodes(2);
  // The second kernel of node 1 feeds the message that its first one waits for.
  g.tasks = {kernel(0, {}), message(1, 0, 1000, {}), kernel(0, {1})};
  CHECK_NOTHROW(schedule_tasks(g, fabric(), {{}, {}, {}}, false));
  g.tasks = {kernel(1, {2}), kernel(1, {}), message(1, 0, 1000, {1})};
  CHECK_THROWS_WITH(schedule_tasks(g, fabric(), {{}, {}, {}}, false),
                    Catch::Matchers::ContainsSubstring("n1 lacks 1"));
}

}  // namespace
}  // namespace tessera::cost
