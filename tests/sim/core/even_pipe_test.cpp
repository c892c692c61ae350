#include "sim/core/even_pipe.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <random>
#include <vector>

namespace tessera {
namespace {

using Catch::Matchers::WithinAbs;

TEST_CASE("a customer alone has its requests one after another") {
  EvenPipe<double> pipe;
  pipe.reset(2);
  CHECK(pipe.reserve(0, 10, 5) == 15);
  CHECK(pipe.reserve(0, 11, 5) == 20);
  CHECK(pipe.reserve(0, 30, 5) == 35);
  CHECK(pipe.done(0, 0) == 15);
  CHECK(pipe.busy() == 15);
  CHECK(pipe.free_at() == 35);
}

TEST_CASE("who comes later takes turns, and delays who was there") {
  EvenPipe<double> pipe;
  pipe.reset(2);
  CHECK(pipe.reserve(0, 0, 100) == 100);
  CHECK(pipe.reserve(1, 50, 20) == 90);  // 20 of its own and 20 of the other's
  CHECK(pipe.done(0, 0) == 120);
  CHECK(pipe.reserve(1, 60, 100) == 220);  // 45 are left of the first, 15 and 100 of the second
  CHECK(pipe.done(0, 0) == 150);
  CHECK(pipe.done(1, 0) == 90);
  CHECK(pipe.free_at() == 220);
}

TEST_CASE("a pipe that stands still, is held or sets a customer aside") {
  EvenPipe<double> pipe;
  pipe.reset(2);
  pipe.add(0, 0, 10);
  pipe.add(0, 0, 90);
  pipe.stand_still(40, 1000);
  CHECK(pipe.done(0, 0) == 10);
  CHECK(pipe.done(0, 1) == 1100);
  pipe.add(1, 1050, 50);
  CHECK(pipe.done(1, 0) == 1150);
  pipe.set_aside(0, 1060, 500);
  CHECK(pipe.done(1, 0) == 1105);  // alone again
  CHECK(pipe.done(0, 1) == 1650);
  pipe.hold_until(2000);
  CHECK(pipe.reserve(0, 1900, 10) == 2010);
}

/// Served in quanta, round robin.
struct Quanta {
  struct Request {
    std::size_t customer;
    double at, service, end = 0;
  };
  static void run(std::vector<Request>& requests, std::size_t customers, double quantum) {
    double now = 0;
    std::vector<double> left(requests.size());
    for (std::size_t i = 0; i < requests.size(); ++i) left[i] = requests[i].service;
    for (bool all = false; !all;) {
      bool any = false;
      all = true;
      for (std::size_t c = 0; c < customers; ++c) {
        for (std::size_t i = 0; i < requests.size(); ++i) {
          if (requests[i].customer != c || left[i] <= 0) continue;
          all = false;
          if (requests[i].at > now) break;
          const double served = std::min(quantum, left[i]);
          now += served;
          left[i] -= served;
          if (left[i] <= 0) requests[i].end = now;
          any = true;
          break;
        }
      }
      if (!any) now += quantum;
    }
  }
};

TEST_CASE("random requests end when those of a round robin with short turns do") {
  std::mt19937_64 random{7};
  for (int trial = 0; trial < 20; ++trial) {
    const std::size_t customers = 1 + random() % 5;
    std::vector<Quanta::Request> requests;
    double at = 0;
    for (int i = 0; i < 30; ++i) {
      at += static_cast<double>(random() % 60);
      requests.push_back({random() % customers, at, static_cast<double>(1 + random() % 100)});
    }
    EvenPipe<double> pipe;
    EvenPipe<Time> whole;
    pipe.reset(customers);
    whole.reset(customers);
    std::vector<std::vector<double>> ends(customers);
    for (const Quanta::Request& r : requests) {
      pipe.add(r.customer, r.at, r.service);
      whole.add(r.customer, Time::from_ns(r.at), Time::from_ns(r.service));
    }
    Quanta::run(requests, customers, 1.0 / 64);
    std::vector<std::uint32_t> number(customers);
    for (const Quanta::Request& r : requests) {
      const std::uint32_t n = number[r.customer]++;
      if (pipe.requests(r.customer) - n > EvenPipe<double>::kKept) continue;
      CHECK_THAT(pipe.done(r.customer, n), WithinAbs(r.end, 0.5));
      CHECK_THAT(whole.done(r.customer, n).ns(), WithinAbs(r.end, 0.5));
    }
  }
}

}  // namespace
}  // namespace tessera
