#include <algorithm>
#include <bit>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <numeric>
#include <random>
#include <set>

#include "sim/gpu/hbm/address_map.hpp"
#include "sim/gpu/hbm/pseudo_channel.hpp"
#include "tests/sim/gpu/hbm_trace_check.hpp"

namespace tessera::sim {
namespace {

using Catch::Approx;

HbmSpec without_refresh() {
  HbmSpec s;
  s.trefi_ns = 1e9;
  return s;
}

struct Outcome {
  Cycle end = 0;
  double bytes_per_cycle = 0;
  HbmCounters counters;
  std::vector<HbmCommand> commands;
  std::vector<Cycle> latencies;  // of reads, by tag
};

/// Gives one pseudo-channel `n` requests made by `make`, all there from cycle 0 unless they say otherwise.
template <class Make>
Outcome run(const HbmSpec& spec, int n, Make make, bool traced = false) {
  const HbmTiming timing{spec};
  PseudoChannel channel{spec, timing};
  Outcome o;
  if (traced) channel.trace = [&](const HbmCommand& c) { o.commands.push_back(c); };
  std::int64_t bytes = 0;
  std::vector<Cycle> arrivals(static_cast<std::size_t>(n));
  o.latencies.resize(static_cast<std::size_t>(n));
  int pushed = 0, done = 0;
  while (done < n) {
    while (pushed < n && channel.pending() < 256) {
      PseudoChannel::Request r = make(pushed);
      r.tag = static_cast<std::uint32_t>(pushed);
      r.at = std::max(r.at, o.end == 0                                ? Cycle{0}
                            : channel.next() == PseudoChannel::kNever ? o.end
                                                                      : channel.next());
      arrivals[r.tag] = r.at;
      bytes += 32 * std::popcount(r.sectors);
      channel.push(r);
      ++pushed;
    }
    REQUIRE(channel.next() != PseudoChannel::kNever);
    channel.run(channel.next() + 1, [&](const PseudoChannel::Completion& c) {
      ++done;
      o.end = std::max(o.end, c.data_end);
      o.latencies[c.tag] = c.data_end - arrivals[c.tag];
    });
  }
  REQUIRE(channel.pending() == 0);
  o.bytes_per_cycle = static_cast<double>(bytes) / static_cast<double>(o.end);
  o.counters = channel.counters();
  return o;
}

double cycles_per_request(const Outcome& o, int n) { return static_cast<double>(o.end) / n; }

/// As the address map lays out consecutive runs of one channel: bank groups in turn, four runs to a row.
PseudoChannel::Request sequential(int i) {
  return {.bank = static_cast<std::uint32_t>(i % 4 + i / 16 % 4 * 4),
          .row = static_cast<std::uint32_t>(i / 64)};
}

TEST_CASE("row hits stream at the bus rate") {
  const HbmSpec s = without_refresh();
  const HbmTiming t{s};
  CHECK(run(s, 20'000, sequential).bytes_per_cycle ==
        Approx(32.0 / static_cast<double>(t.ccd_s)).epsilon(0.02));
}

TEST_CASE("refresh takes the share of time in which a bank cannot be used") {
  // One bank alone loses tRFCpb and the precharge before it each time its turn comes; all banks together lose
  // nothing that others cannot fill.
  const HbmSpec s;
  const HbmTiming t{s};
  const double whole = run(without_refresh(), 40'000, sequential).bytes_per_cycle;
  CHECK(run(s, 40'000, sequential).bytes_per_cycle == Approx(whole).epsilon(0.03));
  HbmSpec all = s;
  all.per_bank_refresh = false;
  const HbmTiming ta{all};
  const double lost = static_cast<double>(ta.rtp + ta.rp + ta.rfc + ta.rcd_rd) / static_cast<double>(ta.refi);
  CHECK(run(all, 40'000, sequential).bytes_per_cycle == Approx(whole * (1 - lost)).epsilon(0.02));
}

TEST_CASE("a bank that gets a new row every time runs at the row cycle") {
  const HbmSpec s = without_refresh();
  const HbmTiming t{s};
  const Outcome o = run(s, 5'000, [](int i) {
    return PseudoChannel::Request{.bank = 0, .row = static_cast<std::uint32_t>(i), .sectors = 0x1};
  });
  CHECK(cycles_per_request(o, 5'000) == Approx(static_cast<double>(t.rc)).epsilon(0.02));
  CHECK(o.counters.activates == 5'000);
}

TEST_CASE("one bank group runs at tCCD_L") {
  const HbmSpec s = without_refresh();
  const HbmTiming t{s};
  const Outcome o = run(s, 20'000, [](int i) {
    PseudoChannel::Request r = sequential(i);
    r.bank = r.bank / 4 * 4;
    return r;
  });
  CHECK(cycles_per_request(o, 20'000) == Approx(8.0 * static_cast<double>(t.ccd_l)).epsilon(0.02));
}

TEST_CASE("random rows are limited by four activates per tFAW") {
  const HbmSpec s = without_refresh();
  const HbmTiming t{s};
  std::mt19937_64 random{1};
  const Outcome o = run(s, 20'000, [&](int) {
    return PseudoChannel::Request{.bank = static_cast<std::uint32_t>(random() % 16),
                                  .row = static_cast<std::uint32_t>(random() % 100'000),
                                  .sectors = 0x1};
  });
  const double limit = static_cast<double>(t.faw) / 4, each = cycles_per_request(o, 20'000);
  CHECK(each >= limit * 0.999);
  CHECK(each <= limit * 1.02);
}

TEST_CASE("random runs of 256 B come near the bus rate") {
  const HbmSpec s = without_refresh();
  const HbmTiming t{s};
  std::mt19937_64 random{2};
  const Outcome o = run(s, 20'000, [&](int) {
    return PseudoChannel::Request{.bank = static_cast<std::uint32_t>(random() % 16),
                                  .row = static_cast<std::uint32_t>(random() % 100'000)};
  });
  CHECK(cycles_per_request(o, 20'000) <= 8.0 * static_cast<double>(t.ccd_s) * 1.10);
}

TEST_CASE("each turn of the bus costs tRTW and tWTR") {
  const HbmSpec s = without_refresh();
  const HbmTiming t{s};
  // Reads and writes of open rows in equal number: the write queue's thresholds set the size of a group.
  const int n = 40'000;
  const Outcome o = run(s, n, [](int i) {
    PseudoChannel::Request r{.bank = static_cast<std::uint32_t>(i / 2 % 16),
                             .row = static_cast<std::uint32_t>(i / 1024)};
    r.write = i % 2 == 1;
    return r;
  });
  const double group = s.write_drain_high - s.write_drain_low;
  const double run_cycles = 8.0 * static_cast<double>(t.ccd_s);
  const double turns = static_cast<double>(t.rtw + t.wtr_s - 2 * t.ccd_s) / (2 * group);
  CHECK(cycles_per_request(o, n) == Approx(run_cycles + turns).epsilon(0.03));
}

TEST_CASE("an idle read takes tRCD + tCL + burst") {
  const HbmSpec s;
  const HbmTiming t{s};
  const Outcome o = run(s, 1, [](int) { return PseudoChannel::Request{.sectors = 0x1}; });
  CHECK(o.end == t.rcd_rd + t.cl + t.bl);
}

TEST_CASE("no bank waits much longer than another when all compete for activates") {
  const HbmSpec s;
  std::mt19937_64 random{3};
  std::array<double, 16> sum{};
  std::array<int, 16> n{};
  std::vector<std::uint32_t> banks;
  const Outcome o = run(s, 20'000, [&](int) {
    banks.push_back(static_cast<std::uint32_t>(random() % 16));
    return PseudoChannel::Request{.bank = banks.back(),
                                  .row = static_cast<std::uint32_t>(random() % 100'000)};
  });
  for (std::size_t i = 0; i < banks.size(); ++i) {
    sum[banks[i]] += static_cast<double>(o.latencies[i]);
    ++n[banks[i]];
  }
  double least = 1e18, most = 0;
  for (std::size_t p = 0; p < 16; ++p) {
    least = std::min(least, sum[p] / n[p]);
    most = std::max(most, sum[p] / n[p]);
  }
  CHECK(most < 1.2 * least);
  const double mean = std::accumulate(o.latencies.begin(), o.latencies.end(), 0.0) / 20'000;
  CHECK(static_cast<double>(*std::max_element(o.latencies.begin(), o.latencies.end())) < 6 * mean);
}

TEST_CASE("a silence brings every bank its refreshes") {
  for (const bool per_bank : {true, false}) {
    HbmSpec s;
    s.per_bank_refresh = per_bank;
    const HbmTiming t{s};
    const Cycle later = 1000 * t.refi + 7;
    const Outcome o = run(
        s, 2, [&](int i) { return PseudoChannel::Request{.at = i * later}; }, true);
    CHECK(o.counters.refreshes == 1000);
    // A bank that has just been refreshed makes its first user wait for it.
    CHECK(o.latencies[1] >= o.latencies[0]);
    CHECK(o.latencies[1] <= o.latencies[0] + t.rfc + t.rp);
  }
}

TEST_CASE("when requests become known changes nothing") {
  // Once all in advance, once each in the very cycle of its arrival.
  const HbmSpec s;
  const HbmTiming t{s};
  std::mt19937_64 random{5};
  std::vector<PseudoChannel::Request> requests;
  Cycle at = 0;
  for (std::uint32_t i = 0; i < 4'000; ++i) {
    at += static_cast<Cycle>(random() % (i % 1000 < 500 ? 8 : 40));
    requests.push_back({.at = at,
                        .bank = static_cast<std::uint32_t>(random() % 16),
                        .row = static_cast<std::uint32_t>(random() % 20),
                        .tag = i,
                        .sectors = 0xff,
                        .write = random() % 3 == 0});
  }
  std::vector<std::pair<std::uint32_t, Cycle>> known, unknown;
  PseudoChannel a{s, t}, b{s, t};
  for (const auto& r : requests) a.push(r);
  a.run(PseudoChannel::kNever, [&](const auto& c) { known.emplace_back(c.tag, c.data_end); });
  for (const auto& r : requests) {
    b.run(r.at, [&](const auto& c) { unknown.emplace_back(c.tag, c.data_end); });
    b.push(r);
  }
  b.run(PseudoChannel::kNever, [&](const auto& c) { unknown.emplace_back(c.tag, c.data_end); });
  CHECK(known == unknown);
  CHECK(a.steps() == b.steps());
}

TEST_CASE("no timing constraint is ever violated") {
  std::mt19937_64 random{9};
  for (const bool per_bank : {true, false}) {
    HbmSpec s;
    s.per_bank_refresh = per_bank;
    for (const int gap : {0, 20, 300}) {
      const auto any = [&](int i) {
        return PseudoChannel::Request{.at = i * gap,
                                      .bank = static_cast<std::uint32_t>(random() % 16),
                                      .row = static_cast<std::uint32_t>(random() % 40),
                                      .sectors = static_cast<std::uint8_t>(1 + random() % 255),
                                      .write = random() % 3 == 0};
      };
      CHECK(violation_of(s, run(s, 6'000, any, true).commands) == "");
    }
    CHECK(violation_of(s, run(s, 3'000, sequential, true).commands) == "");
    const auto one_bank = [](int i) {
      return PseudoChannel::Request{.bank = 3, .row = static_cast<std::uint32_t>(i / 3), .write = i % 7 == 0};
    };
    CHECK(violation_of(s, run(s, 3'000, one_bank, true).commands) == "");
  }
}

TEST_CASE("the address map is a bijection that spreads strides evenly") {
  const HbmSpec s;
  const AddressMap map{s};
  std::set<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>> seen;
  for (std::uint32_t run_number = 0; run_number < 300'000; ++run_number) {
    const HbmLocation l = map.locate(run_number);
    REQUIRE(l.channel < map.channels());
    REQUIRE(l.bank < map.banks());
    REQUIRE(seen.insert({l.channel, l.bank, l.row, l.column}).second);
  }
  for (const std::uint64_t stride : {1, 16, 32, 64, 96, 192, 2048, 32768}) {
    std::vector<int> load(map.channels());
    const int per_channel = 200;
    for (std::uint64_t i = 0; i < map.channels() * std::uint64_t{per_channel}; ++i)
      ++load[map.locate(static_cast<std::uint32_t>(i * stride)).channel];
    INFO("stride " << stride);
    CHECK(*std::max_element(load.begin(), load.end()) < 1.5 * per_channel);
  }
}

}  // namespace
}  // namespace tessera::sim
