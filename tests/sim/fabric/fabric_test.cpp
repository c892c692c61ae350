#include "sim/fabric/fabric.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <map>
#include <memory>
#include <random>

#include "sim/core/error.hpp"

namespace tessera::sim {
namespace {

using Catch::Approx;

struct Message {
  std::uint32_t from, to;
  std::int64_t bytes;
  Time at;
};

/// A node that sends at given times and notes what arrives.
class Endpoint : public EventModule<NodeEvent> {
 public:
  Endpoint(sc_core::sc_module_name name, const std::vector<Message>& messages, std::uint32_t self)
      : EventModule{name}, messages_{messages} {
    for (std::uint32_t i = 0; i < messages.size(); ++i) {
      if (messages[i].from == self)
        schedule(messages[i].at, NodeEvent{.kind = NodeEvent::Kind::start, .id = i});
    }
  }
  Outlet<NicEvent> to_nic;
  std::map<std::uint32_t, Time> received, sent;

 private:
  void handle(Time now, const NodeEvent& e) override {
    if (e.kind == NodeEvent::Kind::start) {
      const Message& m = messages_[e.id];
      to_nic.send(now, NicEvent{.kind = NicEvent::Kind::send,
                                .packet = {.message = e.id, .destination = m.to},
                                .bytes = m.bytes});
    } else if (e.kind == NodeEvent::Kind::message_received) {
      REQUIRE(received.emplace(e.id, now).second);
    } else {
      REQUIRE(sent.emplace(e.id, now).second);
    }
  }
  const std::vector<Message>& messages_;
};

struct Delivered {
  std::vector<Time> received, sent;
};

/// Sends the messages over a fabric of `nodes` and checks conservation. Once per process.
Delivered deliver(const FabricSpec& spec, std::uint32_t nodes, const std::vector<Message>& messages) {
  std::vector<std::string> names;
  for (std::uint32_t n = 0; n < nodes; ++n) names.push_back("n" + std::to_string(n));
  Fabric fabric{spec, names, messages.size()};
  std::vector<std::unique_ptr<Endpoint>> ends;
  std::vector<Module*> modules = fabric.modules();
  for (std::uint32_t n = 0; n < nodes; ++n) {
    ends.push_back(std::make_unique<Endpoint>(("end" + std::to_string(n)).c_str(), messages, n));
    ends[n]->to_nic.connect(fabric.nic(n), fabric.endpoint_latency());
    fabric.nic(n).to_node.connect(*ends[n], fabric.endpoint_latency());
    modules.push_back(ends[n].get());
  }
  run_to_completion(modules);
  fabric.check_conservation();
  Delivered d;
  for (std::uint32_t i = 0; i < messages.size(); ++i) {
    d.received.push_back(ends[messages[i].to]->received.at(i));
    d.sent.push_back(ends[messages[i].from]->sent.at(i));
  }
  return d;
}

FabricSpec simple() {
  FabricSpec s;
  s.node_gb_per_s = 10;
  s.link_latency_ns = 100;
  s.switch_latency_ns = 200;
  s.endpoint_latency_ns = 1000;
  s.packet_bytes = 1000;
  s.header_bytes = 0;
  s.buffer_bytes = 100'000;
  return s;
}

TEST_CASE("one packet takes endpoint, wire, switch and two serialisations") {
  const Delivered d = deliver(simple(), 2, {{0, 1, 1000, Time{}}});
  CHECK(d.received[0] == Time::nanoseconds(1000 + 100 + 100 + 200 + 100 + 100 + 1000));
  CHECK(d.sent[0] == Time::nanoseconds(1000 + 100 + 1000));
}

TEST_CASE("sender overhead is paid per message, one after another") {
  FabricSpec s = simple();
  s.message_overhead_us = 5;
  const Delivered d = deliver(s, 2, {{0, 1, 1000, Time{}}, {0, 1, 1000, Time{}}});
  CHECK(d.received[0] == Time::nanoseconds(5000 + 2600));
  CHECK(d.received[1] == Time::nanoseconds(10'000 + 2600));
}

TEST_CASE("a large message runs at the port's payload rate") {
  FabricSpec s = simple();
  s.header_bytes = 100;
  const std::int64_t bytes = 50'000'000;
  const Delivered d = deliver(s, 2, {{0, 1, bytes, Time{}}});
  CHECK(static_cast<double>(bytes) / d.received[0].ns() == Approx(10.0 * 1000 / 1100).epsilon(0.01));
}

TEST_CASE("incast shares the receiver's port fairly") {
  std::vector<Message> all;
  for (std::uint32_t from = 1; from <= 4; ++from) all.push_back({from, 0, 5'000'000, Time{}});
  const Delivered d = deliver(simple(), 5, all);
  for (const Time t : d.received)
    CHECK(t.us() == Approx(2000).epsilon(0.01));  // 20 MB at 10 GB/s, all end together
}

TEST_CASE("disjoint pairs do not disturb one another, nor does a blocked output its neighbours") {
  // 1 and 2 flood 0; 3 to 4 must not notice, nor may 1's message to 5 wait behind its packets to 0.
  const Delivered d =
      deliver(simple(), 6, {{1, 0, 5'000'000, Time{}}, {2, 0, 5'000'000, Time{}}, {3, 4, 1'000'000, Time{}}});
  CHECK(d.received[2].us() == Approx(100 + 2.5).epsilon(0.01));
}

TEST_CASE("an oversubscribed uplink is the limit") {
  FabricSpec s = simple();
  s.nodes_per_switch = 2;
  s.uplink_gb_per_s = 5;
  s.core_latency_ns = 3000;
  const Delivered d = deliver(s, 4, {{0, 2, 5'000'000, Time{}}, {1, 3, 5'000'000, Time{}}});
  CHECK(d.received[0].us() == Approx(2000).epsilon(0.02));
  CHECK(d.received[1].us() == Approx(2000).epsilon(0.02));
}

TEST_CASE("the core's latency is the distance of a WAN") {
  FabricSpec s = simple();
  s.nodes_per_switch = 1;
  s.uplink_gb_per_s = 10;
  s.core_latency_ns = 20e6;
  const Delivered d = deliver(s, 2, {{0, 1, 1000, Time{}}});
  CHECK(d.received[0].us() == Approx(20'000 + 2 + 4 * 0.2 + 0.6).epsilon(1e-3));
}

TEST_CASE("credits limit a link to one buffer per round trip") {
  FabricSpec s = simple();
  s.buffer_bytes = 2000;  // two packets
  s.link_latency_ns = 5000;
  const std::int64_t bytes = 2'000'000;
  const Delivered d = deliver(s, 2, {{0, 1, bytes, Time{}}});
  // A packet's credit is back after its serialisation, the wire, the switch's look-up and the wire again.
  const double round_trip_ns = 100 + 5000 + 200 + 5000;
  CHECK(static_cast<double>(bytes) / d.received[0].ns() == Approx(2000 / round_trip_ns).epsilon(0.05));
}

TEST_CASE("random traffic all arrives, over two levels of switches") {
  FabricSpec s = simple();
  s.nodes_per_switch = 3;
  s.buffer_bytes = 5000;
  s.header_bytes = 17;
  std::mt19937_64 random{4};
  std::vector<Message> all;
  for (int i = 0; i < 400; ++i) {
    const auto from = static_cast<std::uint32_t>(random() % 8);
    const auto to = static_cast<std::uint32_t>((from + 1 + random() % 7) % 8);
    all.push_back({from, to, static_cast<std::int64_t>(1 + random() % 50'000),
                   Time::nanoseconds(static_cast<std::int64_t>(random() % 100'000))});
  }
  const Delivered d = deliver(s, 8, all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    CHECK(d.received[i] >= all[i].at + transfer_time(all[i].bytes, s.node_gb_per_s));
  }
}

TEST_CASE("a node does not send to itself") {
  CHECK_THROWS_AS(deliver(simple(), 2, {{0, 0, 10, Time{}}}), std::logic_error);
}

}  // namespace
}  // namespace tessera::sim
