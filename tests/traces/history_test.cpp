#include "traces/serving/history.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

using namespace tessera::traces;

TEST_CASE(
    "steps are kept as they were while they are few, and joined without losing any when they are many") {
  StepHistory few{100}, many{100};
  std::int64_t gpu = 0, tokens = 0;
  for (std::int64_t n = 0; n < 10'000; ++n) {
    const StepRecord s{.start_ns = 50 * n,
                       .end_ns = 50 * n + 40 + n % 7,
                       .gpu_ns = 30 + n % 3,
                       .prefill_tokens = n % 5,
                       .decoded_tokens = n % 11};
    if (n < 100) few.add(s);
    many.add(s);
    gpu += s.gpu_ns;
    tokens += s.prefill_tokens + s.decoded_tokens;
  }
  CHECK(few.steps().size() == 100);
  CHECK(few.grain_ns() == 0);
  CHECK(many.steps().size() <= 100);
  CHECK(many.steps().size() >= 25);  // no more than is needed
  std::int64_t steps = 0, last = -1;
  for (const StepRecord& s : many.steps()) {
    CHECK(s.start_ns > last);  // they do not overlap
    last = s.end_ns;
    steps += s.steps;
    gpu -= s.gpu_ns;
    tokens -= s.prefill_tokens + s.decoded_tokens;
  }
  CHECK(steps == 10'000);
  CHECK(gpu == 0);
  CHECK(tokens == 0);
}

TEST_CASE("of many requests every stride-th is kept") {
  RequestHistory history{10};
  for (std::int64_t n = 0; n < 1000; ++n) history.add({.line = n});
  CHECK(history.requests().size() <= 10);
  CHECK(history.requests().size() > 5);
  for (std::size_t i = 0; i < history.requests().size(); ++i)
    CHECK(history.requests()[i].line == static_cast<std::int64_t>(i) * history.stride());
}

TEST_CASE("counters hold from one change to the next, and sums are asked for in bounded number") {
  int asked = 0;
  ServingHistory history{2, {.steps = 10, .requests = 10, .intervals = 16}, [&](std::uint32_t instance) {
                           ++asked;
                           return std::vector<double>{1e9 * asked, static_cast<double>(instance)};
                         }};
  history.state(1, 0, {.waiting = 3, .running = 1, .memory_held = 0.5});
  history.state(1, 4'000'000, {.waiting = 0, .running = 4, .memory_held = 0.25});
  for (std::int64_t ms = 0; ms < 1000; ++ms) history.before_step(1, ms * 1'000'000);
  history.finish(1'000'000'000);
  const ServingHistory::Instance& i = history.instances()[1];
  CHECK(i.waiting.mean() == Catch::Approx(3 * 0.004));
  CHECK(i.running.mean() == Catch::Approx(0.004 + 4 * 0.996));
  CHECK(i.memory.mean() == Catch::Approx(0.5 * 0.004 + 0.25 * 0.996));
  CHECK(i.waiting.intervals().size() <= 16);
  CHECK(i.busy.points().size() <= 17);
  CHECK(i.busy.points().size() >= 4);
  CHECK(i.busy.points().front().at_ns == 0);
  CHECK(i.busy.points().back().at_ns == 1'000'000'000);
  CHECK(asked < 100);
}
