#include "traces/timelines/perfetto.hpp"

#include <catch2/catch_test_macros.hpp>
#include <map>
#include <string>
#include <vector>

using namespace tessera;
using namespace tessera::traces;

namespace {

/// What a reader of the format would see.
struct Seen {
  std::map<std::uint64_t, std::string> tracks;  // uuid to name
  std::map<std::uint64_t, std::uint64_t> parents;
  std::map<std::uint64_t, int> open;  // slices begun and not ended
  std::vector<std::string> slices;
  std::map<std::uint64_t, int> flows;
  std::vector<double> counters;
  std::uint64_t last_ns = 0;
};

void read_event(std::string_view message, std::uint64_t at_ns, Seen& seen) {
  std::uint64_t type = 0, track = 0, flow = 0;
  std::string name;
  double value = 0;
  for (WireFields f{message}; f.next();) {
    if (f.number() == 9) type = f.varint();
    if (f.number() == 11) track = f.varint();
    if (f.number() == 23) name = f.bytes();
    if (f.number() == 44) value = f.number64();
    if (f.number() == 47) {
      CHECK(f.type() == WireFields::Type::fixed64);
      flow = 1;
    }
  }
  CHECK(seen.tracks.count(track) == 1);  // described before it is used
  if (type == 1) {
    ++seen.open[track];
    seen.slices.push_back(seen.tracks[track] + ":" + name + "@" + std::to_string(at_ns));
  }
  if (type == 2) --seen.open[track];
  if (type == 4) seen.counters.push_back(value);
  seen.flows[track] += static_cast<int>(flow);
}

Seen read(const std::string& file) {
  Seen seen;
  for (WireFields packets{file}; packets.next();) {
    REQUIRE(packets.number() == 1);
    std::uint64_t at_ns = 0;
    std::string_view event, descriptor;
    for (WireFields f{packets.bytes()}; f.next();) {
      if (f.number() == 8) at_ns = f.varint();
      if (f.number() == 11) event = f.bytes();
      if (f.number() == 60) descriptor = f.bytes();
    }
    if (!descriptor.empty()) {
      std::uint64_t uuid = 0, parent = 0;
      std::string name;
      for (WireFields f{descriptor}; f.next();) {
        if (f.number() == 1) uuid = f.varint();
        if (f.number() == 2) name = f.bytes();
        if (f.number() == 5) parent = f.varint();
        if (f.number() == 3) name = "process";
      }
      seen.tracks[uuid] = name;
      seen.parents[uuid] = parent;
    }
    if (!event.empty()) read_event(event, at_ns, seen);
  }
  return seen;
}

}  // namespace

TEST_CASE("a .pftrace is packets of tracks, slices, flows and counters") {
  std::string file;
  PerfettoTimeline t{[&](std::string_view bytes) { file += bytes; }};
  t.name_process(1, "comp0");
  t.name_track(1, 1, "compute stream");
  t.slice(1, 1, Time::microseconds(2), Time::microseconds(5), "gemm", "mlp",
          R"("task":3,"operator":"g \"x\"","share":0.5)");
  t.slice(1, 1000, Time::microseconds(5), Time::microseconds(6), "to attn", "send", R"("bytes":8)", 42);
  t.slice(2, 2000, Time::microseconds(5), Time::microseconds(6), "from comp0", "send", "", 42);
  t.name_track(1, 1000, "link out");
  t.counter(1, Time{}, "HBM", 12.5);
  t.counter(1, Time::microseconds(3), "HBM", 0);
  t.note("counters", "as simulated");
  const Seen seen = read(file);
  REQUIRE(seen.slices.size() == 3);
  CHECK(seen.slices[0] == "compute stream:gemm@2000");
  for (const auto& [track, open] : seen.open) CHECK(open == 0);
  int flows = 0;
  for (const auto& [track, n] : seen.flows) flows += n;
  CHECK(flows == 2);
  CHECK(seen.counters == std::vector<double>{12.5, 0});
  int named = 0;
  for (const auto& [uuid, name] : seen.tracks)
    named += name == "link out" || name == "HBM" || name == "process";
  CHECK(named == 3);
}

TEST_CASE("the wire format is read as it was written, and refused when cut") {
  WireWriter w;
  w.varint(1, 300);
  w.bytes(2, "text");
  w.number(3, -1.5);
  w.fixed64(4, 7);
  WireFields f{w.text()};
  REQUIRE(f.next());
  CHECK(f.varint() == 300);
  REQUIRE(f.next());
  CHECK(f.bytes() == "text");
  CHECK_THROWS_AS(f.varint(), WireError);
  REQUIRE(f.next());
  CHECK(f.number64() == -1.5);
  REQUIRE(f.next());
  CHECK_FALSE(f.next());
  for (std::size_t cut = 1; cut < w.text().size(); ++cut) {
    WireFields part{std::string_view{w.text()}.substr(0, cut)};
    int fields = 0;
    try {
      while (part.next()) ++fields;
    } catch (const WireError&) {
      continue;
    }
    CHECK(fields < 4);
  }
}
