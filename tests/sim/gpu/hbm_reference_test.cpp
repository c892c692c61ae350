// Our controller against the plain one of hbm_reference.hpp, on the reference preset: bandwidth and mean
// latency of the same requests.

#include "tests/sim/gpu/hbm_reference.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <queue>
#include <random>

#include "configs/reader/hardware.hpp"

namespace tessera::sim {
namespace {

using Catch::Approx;
using Request = PseudoChannel::Request;
using Refresh = ReferenceController::Refresh;

struct Outcome {
  double accesses_per_cycle = 0, mean_latency_cycles = 0;
};

using Queue = std::priority_queue<std::int64_t, std::vector<std::int64_t>, std::greater<>>;

Outcome outcome_of(std::size_t n, double cycles, double latency_sum, std::size_t reads) {
  return {static_cast<double>(n) / cycles, latency_sum / static_cast<double>(reads)};
}

/// `in_flight` at a time, each replaced when its data has moved; in_flight 0: one each `interval` cycles.
Outcome run_reference(const HbmSpec& spec, Refresh refresh, const std::vector<Request>& requests,
                      std::size_t in_flight, double interval) {
  ReferenceController controller{spec, refresh};
  std::vector<std::int64_t> arrived(requests.size());
  Queue replaced;
  std::deque<std::pair<std::int64_t, std::uint32_t>> waiting;  // for a place in the queues
  std::size_t sent = 0, done = 0, reads = 0;
  double latency = 0;
  std::int64_t end = 0;
  const auto send = [&](std::int64_t at) {
    if (sent == requests.size()) return;
    arrived[sent] = at;
    waiting.emplace_back(at, static_cast<std::uint32_t>(sent++));
  };
  for (std::size_t i = 0; i < in_flight; ++i) send(0);
  if (in_flight == 0)
    while (sent < requests.size()) send(2 * static_cast<std::int64_t>(static_cast<double>(sent) * interval));
  while (done < requests.size()) {
    while (!replaced.empty() && replaced.top() <= controller.now()) {
      send(replaced.top());
      replaced.pop();
    }
    while (!waiting.empty() && waiting.front().first <= controller.now() &&
           controller.can_take(requests[waiting.front().second].write)) {
      Request r = requests[waiting.front().second];
      r.tag = waiting.front().second;
      controller.push(r);
      waiting.pop_front();
    }
    controller.tick([&](std::uint32_t tag, std::int64_t data_end) {
      ++done;
      end = std::max(end, data_end);
      if (in_flight > 0) replaced.push(data_end);
      if (requests[tag].write) return;
      latency += static_cast<double>(data_end - arrived[tag]) / 2;
      ++reads;
    });
  }
  return outcome_of(requests.size(), static_cast<double>(end) / 2, latency, reads);
}

Outcome run_ours(const HbmSpec& spec, std::vector<Request> requests, std::size_t in_flight, double interval) {
  const HbmTiming timing{spec};
  PseudoChannel channel{spec, timing};
  Queue replaced;
  std::size_t sent = 0, done = 0, reads = 0;
  double latency = 0;
  Cycle end = 0;
  const auto send = [&](Cycle at) {
    if (sent == requests.size()) return;
    requests[sent].at = at;
    requests[sent].tag = static_cast<std::uint32_t>(sent);
    channel.push(requests[sent++]);
  };
  for (std::size_t i = 0; i < in_flight; ++i) send(0);
  if (in_flight == 0)
    while (sent < requests.size()) send(static_cast<Cycle>(static_cast<double>(sent) * interval));
  while (done < requests.size()) {
    while (!replaced.empty() && replaced.top() <= channel.next()) {
      send(replaced.top());
      replaced.pop();
    }
    channel.run(channel.next() + 1, [&](const PseudoChannel::Completion& c) {
      ++done;
      end = std::max(end, c.data_end);
      if (in_flight > 0) replaced.push(c.data_end);
      if (!c.read) return;
      latency += static_cast<double>(c.data_end - requests[c.tag].at);
      ++reads;
    });
  }
  return outcome_of(requests.size(), static_cast<double>(end), latency, reads);
}

struct Pattern {
  const char* name;
  std::function<Request(int, std::mt19937_64&)> at;
};

const std::vector<Pattern>& patterns() {
  static const std::vector<Pattern> all{
      // As the address map lays out consecutive 32 B: eight to a run, runs over bank groups in turn.
      {"sequential, runs of 256 B",
       [](int i, auto&) {
         const int run = i / 8;
         return Request{.bank = static_cast<std::uint32_t>(run % 4 + run / 16 % 4 * 4),
                        .row = static_cast<std::uint32_t>(run / 64)};
       }},
      {"sequential, bank groups in turn",
       [](int i, auto&) {
         return Request{.bank = static_cast<std::uint32_t>(i % 4 + i / 128 % 4 * 4),
                        .row = static_cast<std::uint32_t>(i / 512)};
       }},
      {"random",
       [](int, auto& random) {
         return Request{.bank = static_cast<std::uint32_t>(random() % 16),
                        .row = static_cast<std::uint32_t>(random() % 16384)};
       }},
      {"random of few rows",
       [](int, auto& random) {
         return Request{.bank = static_cast<std::uint32_t>(random() % 16),
                        .row = static_cast<std::uint32_t>(random() % 4)};
       }},
      {"random runs of 128 B",
       [](int i, auto& random) {
         static std::uint64_t place = 0;
         if (i % 4 == 0) place = random();
         return Request{.bank = static_cast<std::uint32_t>(place % 16),
                        .row = static_cast<std::uint32_t>(place / 16 % 16384)};
       }},
  };
  return all;
}

TEST_CASE("a plain FR-FCFS controller gives the same bandwidth and mean latency") {
  const HbmSpec preset =
      config::read_gpu(std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/hardware/hbm3_6400.yaml").hbm;
  for (const Refresh refresh : {Refresh::none, Refresh::all_bank, Refresh::per_bank}) {
    HbmSpec spec = preset;
    spec.per_bank_refresh = refresh == Refresh::per_bank;
    spec.refresh_exclusive = true;
    if (refresh == Refresh::none) spec.trefi_ns = 1e9;
    for (const Pattern& pattern : patterns()) {
      for (const double reads : {1.0, 2.0 / 3, 0.5}) {
        for (const std::size_t in_flight : {8, 32, 96}) {
          std::mt19937_64 random{7};
          std::vector<Request> requests;
          for (int i = 0; i < 10'000; ++i) {
            Request r = pattern.at(i, random);
            r.sectors = 1;
            r.write = static_cast<double>(random() % 3000) >= 3000 * reads;
            requests.push_back(r);
          }
          const Outcome reference = run_reference(spec, refresh, requests, in_flight, 0);
          const Outcome ours = run_ours(spec, requests, in_flight, 0);
          INFO("refresh " << static_cast<int>(refresh) << ", " << pattern.name << ", reads " << reads
                          << ", in flight " << in_flight << ": accesses per cycle " << ours.accesses_per_cycle
                          << " against " << reference.accesses_per_cycle << ", latency "
                          << ours.mean_latency_cycles << " against " << reference.mean_latency_cycles);
          // Refreshes that stop everything, one after another, leave small differences room to grow.
          const double bandwidth = refresh == Refresh::per_bank ? 0.04 : 0.03;
          CHECK(ours.accesses_per_cycle == Approx(reference.accesses_per_cycle).epsilon(bandwidth));
          CHECK(ours.mean_latency_cycles == Approx(reference.mean_latency_cycles).epsilon(0.05));
        }
      }
    }
  }
}

TEST_CASE("a plain FR-FCFS controller gives the same latency at an offered rate") {
  const HbmSpec preset =
      config::read_gpu(std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/hardware/hbm3_6400.yaml").hbm;
  for (const Refresh refresh : {Refresh::none, Refresh::all_bank, Refresh::per_bank}) {
    HbmSpec spec = preset;
    spec.per_bank_refresh = refresh == Refresh::per_bank;
    if (refresh == Refresh::none) spec.trefi_ns = 1e9;
    for (const double reads : {1.0, 2.0 / 3}) {
      for (const double interval : {60.0, 20.0, 10.0}) {
        std::mt19937_64 random{11};
        std::vector<Request> requests;
        for (int i = 0; i < 10'000; ++i) {
          requests.push_back({.bank = static_cast<std::uint32_t>(random() % 16),
                              .row = static_cast<std::uint32_t>(random() % 16384),
                              .sectors = 1,
                              .write = static_cast<double>(random() % 3000) >= 3000 * reads});
        }
        const Outcome reference = run_reference(spec, refresh, requests, 0, interval);
        const Outcome ours = run_ours(spec, requests, 0, interval);
        INFO("refresh " << static_cast<int>(refresh) << ", reads " << reads << ", every " << interval
                        << " cycles");
        CHECK(ours.accesses_per_cycle == Approx(reference.accesses_per_cycle).epsilon(0.01));
        CHECK(ours.mean_latency_cycles == Approx(reference.mean_latency_cycles).epsilon(0.05));
      }
    }
  }
}

}  // namespace
}  // namespace tessera::sim
