#include "models/cost/route_or_fetch.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <stdexcept>

namespace tessera::cost {
namespace {

using Catch::Approx;

TEST_CASE("bytes and times of routing and of fetching are those of the equations") {
  // 400 Gb/s and 2 us: 50,000 B/us.
  const RouteOrFetch r = route_or_fetch({50'000, 2}, {.query_rows = 3, .heads = 16, .context_rows = 10'000});
  CHECK(r.route_bytes == 3 * 16 * (576 * 2 + 512 * 2 + 8));
  CHECK(r.fetch_bytes == 10'000 * 1152.0);
  CHECK(r.route_us == Approx(4 + 104'832.0 / 50'000));
  CHECK(r.fetch_us == Approx(4 + 11'520'000.0 / 50'000));
  CHECK(r.route);
  CHECK(r.crossover_rows == Approx(91));  // 104,832 / 1,152, whatever the fabric
}

TEST_CASE("the crossover is where both cost the same, and the choice changes there") {
  for (const double bandwidth : {10.0, 50'000.0, 450'000.0}) {
    for (const double latency : {0.5, 2.0, 20'000.0}) {
      for (const std::int64_t steps : {1, 7, 1000}) {
        RemoteLatents w{.query_rows = 5,
                        .heads = 128,
                        .context_rows = 1,
                        .steps = steps,
                        .attend_remote_us = 9,
                        .attend_local_us = 8,
                        .merge_us = 3,
                        .splice_us = 4};
        const double at = route_or_fetch({bandwidth, latency}, w).crossover_rows;
        INFO(bandwidth << " B/us, " << latency << " us, " << steps << " steps: " << at);
        REQUIRE(at > 2);
        w.context_rows = static_cast<std::int64_t>(std::floor(at)) - 1;
        CHECK(!route_or_fetch({bandwidth, latency}, w).route);
        w.context_rows = static_cast<std::int64_t>(std::ceil(at)) + 1;
        CHECK(route_or_fetch({bandwidth, latency}, w).route);
      }
    }
  }
}

TEST_CASE("latency counts against routing as often as it is paid") {
  RemoteLatents w{.heads = 16, .context_rows = 4096};
  // Once each way: latency cancels. Over many steps routing pays for every one, fetching once.
  CHECK(route_or_fetch({50'000, 2}, w).crossover_rows ==
        Approx(route_or_fetch({50'000, 20'000}, w).crossover_rows));
  w.steps = 10;
  CHECK(route_or_fetch({50'000, 2}, w).route);
  CHECK(!route_or_fetch({50'000, 200}, w).route);
}

TEST_CASE("at decode a chunk that must be re-adapted is not worth fetching") {
  // arXiv 2606.01502: tens of microseconds for the round trip, about 3 ms to move and splice a chunk.
  const RouteOrFetch r = route_or_fetch(
      {50'000, 5}, {.heads = 1, .context_rows = 2048, .attend_remote_us = 20, .splice_us = 3000});
  CHECK(r.route);
  CHECK((r.route_us > 10 && r.route_us < 100));
  CHECK(r.crossover_rows < 0);  // for any context
}

TEST_CASE("what crosses depends on where the query is absorbed") {
  const RemoteLatents here{.heads = 128, .context_rows = 1000};
  RemoteLatents there = here;
  there.query_width = 192, there.result_width = 128;
  CHECK(route_or_fetch({1, 0}, there).route_bytes == 128 * (640.0 + 8));
  CHECK(route_or_fetch({1, 0}, there).crossover_rows < route_or_fetch({1, 0}, here).crossover_rows);
}

TEST_CASE("impossible work is refused by name") {
  CHECK_THROWS_AS(route_or_fetch({50'000, 2}, {.context_rows = 0}), std::invalid_argument);
  CHECK_THROWS_AS(route_or_fetch({0, 2}, {.context_rows = 1}), std::invalid_argument);
  CHECK_THROWS_AS(route_or_fetch({1, -1}, {.context_rows = 1}), std::invalid_argument);
  CHECK_THROWS_AS(route_or_fetch({1, 1}, {.context_rows = 1, .splice_us = std::nan("")}),
                  std::invalid_argument);
}

}  // namespace
}  // namespace tessera::cost
