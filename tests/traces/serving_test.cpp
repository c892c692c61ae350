#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>
#include <vector>

#include "traces/serving/simulation.hpp"

using namespace tessera::traces;

namespace {

/// Every step takes as long.
struct Constant : StepTime {
  explicit Constant(std::int64_t each) : each_ns{each} {}
  std::int64_t ns(const StepShape& shape, std::uint32_t) override {
    ++steps;
    tokens += shape.prefill_tokens + shape.sequences;
    most_tokens = std::max(most_tokens, shape.prefill_tokens + shape.sequences);
    return each_ns;
  }
  std::int64_t each_ns, steps = 0, tokens = 0, most_tokens = 0;
};

ServingSpec no_overheads() {
  ServingSpec s;
  s.step_us = s.sequence_us = s.tokenize_us_per_token = 0;
  return s;
}

Deployment deployment(const ServingSpec& spec, std::int64_t tokens = 1'000'000) {
  return {.spec = spec,
          .memory = {.capacity_bytes = tokens, .token_bytes = 1, .state_bytes = 0},
          .handover = {.gb_per_s = 1, .latency_us = 10, .token_bytes = 1000, .state_bytes = 0},
          .block_tokens = 512};
}

NextRequest of(std::vector<Request> requests) {
  return [requests = std::move(requests), at = std::size_t{0}](Request& r) mutable {
    if (at == requests.size()) return false;
    r = requests[at++];
    r.line = static_cast<std::int64_t>(at);
    return true;
  };
}

Request request(std::int64_t arrival_ns, std::int64_t input, std::int64_t output,
                std::vector<std::uint64_t> blocks = {}) {
  return {.line = 0,
          .arrival_ns = arrival_ns,
          .input_tokens = input,
          .output_tokens = output,
          .blocks = std::move(blocks)};
}

struct Ran {
  ServingReport report;
  std::vector<RequestRecord> records;
};

Ran run(const Deployment& d, StepTime& time, NextRequest next, std::int64_t stop_ns = INT64_MAX) {
  Ran ran;
  ran.report =
      Simulation{d, time, {}}.run(next, stop_ns, [&](const RequestRecord& r) { ran.records.push_back(r); });
  std::int64_t fates = 0, produced = 0;
  for (const std::int64_t n : ran.report.fates) fates += n;
  for (const RequestRecord& r : ran.records) produced += r.produced;
  CHECK(fates == ran.report.arrived);
  CHECK(static_cast<std::int64_t>(ran.records.size()) == ran.report.arrived);
  CHECK(produced == ran.report.output_tokens);
  for (const InstanceReport& i : ran.report.instances) CHECK(i.memory_most <= 1);
  return ran;
}

std::int64_t count(const Ran& ran, Fate fate) { return ran.report.fates[static_cast<std::size_t>(fate)]; }

constexpr std::int64_t kMs = 1'000'000;

}  // namespace

TEST_CASE("M/D/1: one server of constant time, Poisson arrivals: the closed form's mean wait") {
  // Pollaczek-Khinchine with no variance of service: W = rho S / (2 (1 - rho)).
  for (const auto& [load, seed] : std::vector<std::pair<double, std::uint64_t>>{{0.3, 1},
                                                                                {0.3, 2},
                                                                                {0.5, 1},
                                                                                {0.5, 2},
                                                                                {0.5, 3},
                                                                                {0.5, 42},
                                                                                {0.8, 1},
                                                                                {0.8, 2},
                                                                                {0.8, 3},
                                                                                {0.8, 42}}) {
    INFO("load " << load << ", seed " << seed);
    ServingSpec spec = no_overheads();
    spec.max_sequences = 1;
    Constant server{10 * kMs};
    std::mt19937_64 random{seed};
    std::exponential_distribution<double> gap{load / 10.0};  // per ms
    double at_ms = 0;
    std::int64_t left = 300'000;
    const NextRequest poisson = [&](Request& r) {
      if (left-- == 0) return false;
      at_ms += gap(random);
      r = request(std::llround(at_ms * 1e6), 100, 1);
      return true;
    };
    const ServingReport report = Simulation{deployment(spec), server, {}}.run(poisson, INT64_MAX, {});
    const double expected_ms = load * 10 / (2 * (1 - load));
    CHECK(report.queue.mean_ns() / 1e6 == Catch::Approx(expected_ms).epsilon(0.03));
    CHECK(report.fates[0] == 300'000);
    CHECK(report.instances[0].busy_ns == 3'000'000 * kMs);
  }
}

TEST_CASE("a request alone: its first token after its prompt's chunks, then one a step") {
  ServingSpec spec = no_overheads();
  spec.max_batched_tokens = 100;
  spec.step_us = 1000;
  Constant server{9 * kMs};
  const Ran ran = run(deployment(spec), server, of({request(5 * kMs, 250, 4)}));
  const RequestRecord& r = ran.records.front();
  CHECK(r.started_ns == 0 + 5 * kMs);
  CHECK(r.first_token_ns == 35 * kMs);  // three chunks of 10 ms
  CHECK(r.last_token_ns == 65 * kMs);
  CHECK(ran.report.ttft.mean_ns() == 30.0 * kMs);
  CHECK(ran.report.itl.count() == 3);
  CHECK(ran.report.tpot.mean_ns() == 10.0 * kMs);
  CHECK(server.tokens == 250 + 3);
  CHECK(server.most_tokens == 100);
  CHECK(ran.report.instances[0].gpu_ns == 54 * kMs);
  CHECK(ran.report.instances[0].busy_ns == 60 * kMs);
  CHECK(ran.report.end_ns == 65 * kMs);
}

TEST_CASE("the host's work may hide behind the GPU's") {
  ServingSpec spec = no_overheads();
  spec.step_us = 4000;
  spec.overlap = true;
  Constant server{9 * kMs};
  CHECK(run(deployment(spec), server, of({request(0, 10, 2)})).report.end_ns == 18 * kMs);
  spec.step_us = 20'000;
  CHECK(run(deployment(spec), server, of({request(0, 10, 2)})).report.end_ns == 40 * kMs);
}

TEST_CASE("requests join and leave the batch at every step") {
  ServingSpec spec = no_overheads();
  Constant server{10 * kMs};
  const Ran ran =
      run(deployment(spec), server, of({request(0, 10, 5), request(1, 10, 2), request(2, 10, 1)}));
  CHECK(ran.report.end_ns == 50 * kMs);
  CHECK(server.steps == 5);
  CHECK(count(ran, Fate::finished) == 3);
}

TEST_CASE("when memory runs out the request admitted last starts over; all finish") {
  ServingSpec spec = no_overheads();
  spec.page_tokens = 1;
  Constant server{kMs};
  const Ran ran =
      run(deployment(spec, 100), server, of({request(0, 40, 40), request(0, 40, 40), request(0, 10, 3)}));
  CHECK(count(ran, Fate::finished) == 3);
  CHECK(ran.report.instances[0].preemptions >= 1);
  for (const RequestRecord& r : ran.records) CHECK(r.produced == r.output_tokens);
  CHECK(ran.report.instances[0].memory_most <= 1);
}

TEST_CASE("what cannot be served is rejected with its reason") {
  ServingSpec spec = no_overheads();
  spec.max_sequences = 1;
  spec.max_waiting = 1;
  Deployment d = deployment(spec, 1024);
  d.max_tokens = 2000;
  Constant server{kMs};
  const Ran ran = run(d, server,
                      of({request(0, 10, 0), request(0, 1990, 11), request(0, 1000, 100), request(1, 10, 9),
                          request(2, 10, 9), request(3, 10, 9)}));
  CHECK(count(ran, Fate::no_output) == 1);
  CHECK(count(ran, Fate::too_long) == 1);
  CHECK(count(ran, Fate::no_memory) == 1);
  CHECK(count(ran, Fate::queue_full) == 1);
  CHECK(count(ran, Fate::finished) == 2);
}

TEST_CASE("requests that are not done when time is up are said to be waiting or running") {
  ServingSpec spec = no_overheads();
  spec.max_sequences = 1;
  Constant server{10 * kMs};
  const Ran ran =
      run(deployment(spec), server, of({request(0, 10, 1), request(0, 10, 9), request(0, 10, 9)}), 35 * kMs);
  CHECK(count(ran, Fate::finished) == 1);
  CHECK(count(ran, Fate::still_running) == 1);
  CHECK(count(ran, Fate::still_waiting) == 1);
  CHECK(ran.report.end_ns == 35 * kMs);
}

TEST_CASE("a prompt's beginning that another left is not computed again") {
  Constant server{kMs};
  const auto two = [] {
    return of({request(0, 1536, 1, {1, 2, 3}), request(10 * kMs, 2000, 1, {1, 2, 3, 4}),
               request(20 * kMs, 1536, 1, {1, 2, 3})});
  };
  Ran ran = run(deployment(no_overheads()), server, two());
  CHECK(ran.records[1].cached_tokens == 1536);
  CHECK(ran.records[2].cached_tokens == 1024);  // its last token must be computed
  CHECK(server.tokens == 1536 + 464 + 512);

  ServingSpec off = no_overheads();
  off.prefix_cache = false;
  Constant all{kMs};
  ran = run(deployment(off), all, two());
  CHECK(all.tokens == 1536 + 2000 + 1536);

  // Room for one prompt only: the other's blocks are evicted, the beginning of a prompt last.
  Constant small{kMs};
  ran = run(deployment(no_overheads(), 2048 + 64), small,
            of({request(0, 1536, 1, {1, 2, 3}), request(10 * kMs, 1536, 1, {7, 8, 9}),
                request(20 * kMs, 1536, 1, {1, 2, 3})}));
  CHECK(ran.records[2].cached_tokens == 512);
  CHECK(ran.report.instances[0].evicted_blocks > 0);
}

TEST_CASE("with a recurrent state a prefix ends where a state was kept") {
  Constant server{kMs};
  Deployment d = deployment(no_overheads());
  d.memory.state_bytes = 100;
  d.spec.snapshot_tokens = 1024;
  const Ran ran = run(d, server,
                      of({request(0, 2560, 1, {1, 2, 3, 4, 5}), request(10 * kMs, 2000, 1, {1, 2, 3, 9}),
                          request(20 * kMs, 3000, 1, {1, 2, 3, 4, 5, 6})}));
  CHECK(ran.records[1].cached_tokens == 1024);  // not 1536
  CHECK(ran.records[2].cached_tokens == 2560);  // the end of the first prompt
}

TEST_CASE("prefill apart from decoding: the first token, then the cache's way, then the rest") {
  ServingSpec spec = no_overheads();
  spec.replicas = 2;
  spec.prefill_replicas = 1;
  Constant server{10 * kMs};
  // 1000 tokens of 1000 B at 1 GB/s: 1 ms, and 10 us.
  const Ran ran = run(deployment(spec), server, of({request(0, 1000, 3), request(0, 1000, 1)}));
  const RequestRecord& one = ran.records[0];
  CHECK(one.output_tokens == 1);  // ends where it began
  CHECK(one.last_token_ns == 20 * kMs);
  const RequestRecord& three = ran.records[1];
  CHECK(three.first_token_ns == 10 * kMs);
  CHECK(three.last_token_ns == 10 * kMs + kMs + 10'000 + 20 * kMs);
  CHECK(ran.report.instances[0].role == "prefill");
  CHECK(ran.report.instances[1].decoded_tokens == 2);
  CHECK(ran.report.instances[1].prefilled_tokens == 0);
}

TEST_CASE("random traces, little memory, every policy: each request has one fate and the same report twice") {
  for (int variant = 0; variant < 24; ++variant) {
    std::mt19937 random{static_cast<std::uint32_t>(variant)};
    std::vector<Request> requests;
    std::int64_t at = 0;
    for (int n = 0; n < 300; ++n) {
      at += random() % (3 * kMs);
      const std::int64_t input = 1 + random() % 3000;
      std::vector<std::uint64_t> blocks;
      for (std::int64_t b = 0; b < (input + 511) / 512; ++b)
        blocks.push_back(random() % 3 == 0 ? random() % 50 : static_cast<std::uint64_t>(b));
      requests.push_back(request(at, input, random() % 60, blocks));
    }
    ServingSpec spec = no_overheads();
    spec.replicas = 1 + variant % 4;
    spec.prefill_replicas = variant % 4 == 3 ? 2 : 0;
    spec.routing = static_cast<Routing>(variant % 3);
    spec.max_batched_tokens = 256 << (variant % 4);
    spec.max_sequences = 1 + variant;
    Deployment d = deployment(spec, 3200 + 300 * variant);
    d.memory.state_bytes = variant % 2 == 0 ? 0 : 40;
    Constant server{kMs}, again{kMs};
    const Ran first = run(d, server, of(requests));
    const Ran second = run(d, again, of(requests));
    CHECK(count(first, Fate::still_waiting) + count(first, Fate::still_running) == 0);
    CHECK(first.report.end_ns == second.report.end_ns);
    CHECK(first.report.ttft.quantile_ns(0.9) == second.report.ttft.quantile_ns(0.9));
    CHECK(first.report.fates == second.report.fates);
    for (const RequestRecord& r : first.records) {
      if (r.fate == Fate::finished) CHECK(r.produced == r.output_tokens);
    }
    CHECK(server.most_tokens <= spec.max_batched_tokens);
  }
}

TEST_CASE("a histogram's quantiles are within 0.2 %, its mean exact") {
  Histogram h;
  double sum = 0;
  for (std::int64_t v = 1; v <= 1'000'000; ++v) {
    h.add(v * 37);
    sum += static_cast<double>(v * 37);
  }
  for (const double share : {0.01, 0.5, 0.9, 0.99, 0.999})
    CHECK(h.quantile_ns(share) == Catch::Approx(share * 37e6).epsilon(0.002));
  CHECK(h.mean_ns() == Catch::Approx(sum / 1e6).epsilon(1e-12));
  CHECK(h.quantile_ns(1) <= 37e6);
  CHECK(Histogram{}.quantile_ns(0.5) == 0);
}

TEST_CASE("a series keeps its mean however often it is folded") {
  Series s;
  for (std::int64_t i = 1; i <= 5000; ++i) s.hold(i * 700'000, static_cast<double>(i % 10));
  CHECK(s.mean() == Catch::Approx(4.5));
  CHECK(s.most() == 9);
  CHECK(s.intervals().size() <= Series::kMostIntervals);
  double area = 0;
  for (std::size_t i = 0; i < s.intervals().size(); ++i) area += s.intervals()[i].area;
  CHECK(area == Catch::Approx(4.5 * 5000 * 700'000));
}
