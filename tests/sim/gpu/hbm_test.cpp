#include <algorithm>
#include <bit>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <map>
#include <random>
#include <set>

#include "sim/gpu/hbm/address_map.hpp"
#include "sim/gpu/hbm/pseudo_channel.hpp"

namespace tessera::sim {
namespace {

using Catch::Approx;
using Kind = HbmCommand::Kind;

HbmSpec without_refresh() {
  HbmSpec s;
  s.trefi_ns = 1e9;
  return s;
}

struct Outcome {
  Time end;
  double gb_per_s = 0;
  HbmCounters counters;
  std::vector<HbmCommand> commands;
};

/// Keeps one pseudo-channel's queues full with `n` requests made by `make`.
template <class Make>
Outcome run(const HbmSpec& spec, int n, Make make, bool traced = false) {
  const HbmTimings timings{spec};
  PseudoChannel channel{spec, timings};
  Outcome o;
  if (traced) channel.trace = [&](const HbmCommand& c) { o.commands.push_back(c); };
  int pushed = 0, done = 0;
  Time now;
  std::int64_t bytes = 0;
  PseudoChannel::Request next = make(0);
  while (done < n) {
    while (pushed < n && !channel.full(next.write)) {
      channel.push(now, next);
      bytes += 32 * std::popcount(next.sectors);
      if (++pushed < n) next = make(pushed);
    }
    REQUIRE(channel.next_step() != Time::never());
    now = max(now, channel.next_step());
    PseudoChannel::Completion c;
    if (channel.step(now, c)) {
      ++done;
      o.end = max(o.end, c.data_end);
    }
  }
  o.gb_per_s = static_cast<double>(bytes) / o.end.ns();
  o.counters = channel.counters();
  return o;
}

PseudoChannel::Request sequential(int i) {
  return {.pair = static_cast<std::uint32_t>(i / 16 % 8), .row = static_cast<std::uint32_t>(i / 128)};
}

TEST_CASE("row hits stream at the bus rate") {
  const HbmSpec s = without_refresh();
  const double bus = s.pin_gbps * s.pins_per_pseudo_channel / 8;
  CHECK(run(s, 20'000, sequential).gb_per_s == Approx(bus).epsilon(0.02));
}

TEST_CASE("one bank with a new row every time runs at the row cycle") {
  const HbmSpec s = without_refresh();
  const HbmTimings t{s};
  const Outcome o = run(s, 5'000, [](int i) {
    return PseudoChannel::Request{.pair = 0, .row = static_cast<std::uint32_t>(i)};
  });
  // ACT of both banks, tRCD, four columns, tRTP and tRP take longer than tRC when the last column is late.
  const Time columns = t.rrd_s + t.rcd_rd + 3 * t.ccd_s + t.rtp + t.rp;
  CHECK(o.end.ns() / 5'000 == Approx(max(columns, t.rc + t.rrd_s).ns()).epsilon(0.02));
}

TEST_CASE("one bank group runs at tCCD_L") {
  const HbmSpec s = without_refresh();
  const HbmTimings t{s};
  const Outcome o = run(s, 20'000, [](int i) {
    PseudoChannel::Request r = sequential(i);
    r.sectors = 0x5;  // sectors 0 and 2: the even bank group of the pair
    r.pair = r.pair / 2 * 2;
    return r;
  });
  CHECK(o.end.ns() / 40'000 == Approx(t.ccd_l.ns()).epsilon(0.03));
}

TEST_CASE("random rows are limited by four activates per tFAW") {
  const HbmSpec s = without_refresh();
  const HbmTimings t{s};
  std::mt19937_64 random{1};
  const Outcome o = run(s, 20'000, [&](int) {
    return PseudoChannel::Request{.pair = static_cast<std::uint32_t>(random() % 8),
                                  .row = static_cast<std::uint32_t>(random() % 100'000)};
  });
  const double limit = t.faw.ns() / 2;  // two activates per line
  CHECK(o.end.ns() / 20'000 >= limit * 0.999);
  CHECK(o.end.ns() / 20'000 <= limit * 1.10);
}

TEST_CASE("an idle read takes tRCD + tCL + burst") {
  const HbmSpec s;
  const HbmTimings t{s};
  const Outcome o = run(s, 1, [](int) { return PseudoChannel::Request{.sectors = 0x1}; });
  CHECK(o.end == t.rrd_s + t.rcd_rd + t.cl + t.burst);
}

TEST_CASE("refresh takes its share of a single bank's time") {
  HbmSpec s;
  const double quiet = run(without_refresh(), 20'000, sequential).gb_per_s,
               refreshed = run(s, 20'000, sequential).gb_per_s;
  CHECK(refreshed <= quiet);
  CHECK(refreshed > 0.9 * quiet);
  CHECK(run(s, 20'000, sequential).counters.refreshes > 0);
}

/// Independent check of every constraint, on the commands in time order.
void check_trace(const HbmSpec& spec, std::vector<HbmCommand> commands) {
  const HbmTimings t{spec};
  std::stable_sort(commands.begin(), commands.end(),
                   [](const auto& a, const auto& b) { return a.at < b.at; });
  struct Bank {
    bool open = false;
    std::uint32_t row = 0;
    Time activated, closed, refreshed, last_read, last_write;
    bool ever_activated = false, ever_closed = false, ever_refreshed = false, read = false, written = false;
  };
  std::map<std::uint32_t, Bank> banks;
  std::vector<Time> activates;
  std::uint32_t last_activate_group = 0;
  struct Column {
    Time at;
    bool write;
    std::uint32_t group;
  };
  std::vector<Column> columns;
  for (const HbmCommand& c : commands) {
    Bank& b = banks[c.bank];
    switch (c.kind) {
      case Kind::activate:
        REQUIRE(!b.open);
        if (b.ever_activated) REQUIRE(c.at - b.activated >= t.rc);
        if (b.ever_closed) REQUIRE(c.at - b.closed >= t.rp);
        if (b.ever_refreshed) REQUIRE(c.at - b.refreshed >= t.rfc);
        if (!activates.empty())
          REQUIRE(c.at - activates.back() >= (c.bank_group == last_activate_group ? t.rrd_l : t.rrd_s));
        if (activates.size() >= 4) REQUIRE(c.at - activates[activates.size() - 4] >= t.faw);
        activates.push_back(c.at);
        last_activate_group = c.bank_group;
        b.open = b.ever_activated = true;
        b.read = b.written = false;
        b.row = c.row;
        b.activated = c.at;
        break;
      case Kind::precharge:
        REQUIRE(b.open);
        REQUIRE(c.at - b.activated >= t.ras);
        if (b.read) REQUIRE(c.at - b.last_read >= t.rtp);
        if (b.written) REQUIRE(c.at - b.last_write >= t.wr);
        b.open = false;
        b.closed = c.at;
        b.ever_closed = true;
        break;
      case Kind::refresh:
        REQUIRE(!b.open);
        if (b.ever_closed) REQUIRE(c.at - b.closed >= t.rp);
        b.refreshed = c.at;
        b.ever_refreshed = true;
        break;
      case Kind::read:
      case Kind::write: {
        const bool write = c.kind == Kind::write;
        REQUIRE(b.open);
        REQUIRE(b.row == c.row);
        REQUIRE(c.at - b.activated >= (write ? t.rcd_wr : t.rcd_rd));
        if (!columns.empty()) {
          const Column& last = columns.back();
          if (last.write == write)
            REQUIRE(c.at - last.at >= t.ccd_s);
          else
            REQUIRE(c.at - last.at >= (write ? t.rtw : t.wtr));
        }
        for (std::size_t i = columns.size(); i-- > 0 && c.at - columns[i].at < t.ccd_l;) {
          if (columns[i].write == write) REQUIRE(columns[i].group != c.bank_group);
        }
        columns.push_back({c.at, write, c.bank_group});
        (write ? b.last_write : b.last_read) = c.at;
        (write ? b.written : b.read) = true;
        break;
      }
    }
  }
}

TEST_CASE("no timing constraint is ever violated") {
  const HbmSpec s;
  std::mt19937_64 random{9};
  const auto any = [&](int) {
    return PseudoChannel::Request{.pair = static_cast<std::uint32_t>(random() % 8),
                                  .row = static_cast<std::uint32_t>(random() % 40),
                                  .sectors = static_cast<std::uint8_t>(1 + random() % 15),
                                  .write = random() % 3 == 0};
  };
  check_trace(s, run(s, 3'000, sequential, true).commands);
  check_trace(s, run(s, 3'000, any, true).commands);
  check_trace(s, run(
                     s, 3'000,
                     [](int i) {
                       return PseudoChannel::Request{
                           .pair = 3, .row = static_cast<std::uint32_t>(i / 3), .write = i % 7 == 0};
                     },
                     true)
                     .commands);
}

TEST_CASE("the address map is a bijection that spreads strides evenly") {
  const HbmSpec s;
  const AddressMap map{s};
  std::set<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>> seen;
  for (std::uint64_t line = 0; line < 300'000; ++line) {
    const HbmLocation l = map.locate(line);
    REQUIRE(l.channel < map.channels());
    REQUIRE(l.pair < map.pairs());
    REQUIRE(seen.insert({l.channel, l.pair, l.row, l.column}).second);
  }
  for (const std::uint64_t stride : {1, 2, 32, 64, 128, 192, 384, 4096, 65536}) {
    std::vector<int> load(map.channels());
    const int per_channel = 200;
    for (std::uint64_t i = 0; i < map.channels() * std::uint64_t{per_channel}; ++i)
      ++load[map.locate(i * stride).channel];
    INFO("stride " << stride);
    CHECK(*std::max_element(load.begin(), load.end()) < 1.5 * per_channel);
  }
}

}  // namespace
}  // namespace tessera::sim
