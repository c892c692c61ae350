#include "sim/core/turn_pipe.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <deque>
#include <random>
#include <vector>

namespace tessera {
namespace {

using Catch::Matchers::WithinAbs;

TEST_CASE("a customer alone has its turns one after another") {
  TurnPipe<double> pipe;
  pipe.reset(2);
  pipe.add(0, 10, 4, 5);
  pipe.add(0, 11, 1, 7);
  CHECK(pipe.done(0, 0) == 30);
  CHECK(pipe.done(0, 1) == 37);
  CHECK(pipe.free_at() == 37);
  CHECK(pipe.reserve(0, 50, 3) == 53);
  CHECK(pipe.done(0, 0) == 30);
  CHECK(pipe.busy() == 30);
}

TEST_CASE("who began first ends a turn earlier") {
  TurnPipe<double> pipe;
  pipe.reset(3);
  pipe.add(0, 0, 4, 10);
  pipe.add(1, 0, 4, 10);
  CHECK(pipe.done(0, 0) == 70);
  CHECK(pipe.done(1, 0) == 80);
  pipe.add(2, 35, 2, 100);  // after 0's turn that has begun and 1's: at 40 and 0's next
  CHECK(pipe.done(2, 0) == 50 + 100 + 20 + 100);
  CHECK(pipe.done(0, 0) == 170);
  CHECK(pipe.done(1, 0) == 280);
  CHECK(pipe.free_at() == 280);
}

TEST_CASE("a pipe of turns that stands still, is held or sets a customer aside") {
  TurnPipe<double> pipe;
  pipe.reset(2);
  pipe.add(0, 0, 1, 10);
  pipe.add(0, 0, 9, 10);
  pipe.stand_still(45, 1000);
  CHECK(pipe.done(0, 0) == 10);
  CHECK(pipe.done(0, 1) == 1100);
  pipe.add(1, 1052, 5, 10);
  CHECK(pipe.done(1, 0) == 1150);
  CHECK(pipe.done(0, 1) == 1140);
  pipe.set_aside(0, 1055, 500);
  CHECK(pipe.done(0, 1) == 1640);
  CHECK(pipe.done(1, 0) == 1105);
  CHECK(pipe.free_at() == 1105);
  pipe.hold_until(2000);
  CHECK(pipe.reserve(0, 1900, 10) == 2010);
}

/// The same, a turn at a time.
class OneByOne {
 public:
  explicit OneByOne(std::size_t customers) : ends(customers), queues_(customers) {}
  void add(std::size_t customer, double at, std::uint32_t turns, double each) {
    serve_until(at);
    if (queues_[customer].empty()) rotation_.push_back(customer);
    queues_[customer].push_back({turns, each});
    ends[customer].push_back(0);
  }
  void serve_until(double to) {
    while (!rotation_.empty()) {
      const std::size_t c = rotation_.front();
      Request& r = queues_[c].front();
      if (now_ + r.each > to) return;
      now_ += r.each;
      rotation_.pop_front();
      if (--r.turns == 0) {
        ends[c][ends[c].size() - queues_[c].size()] = now_;
        queues_[c].pop_front();
      }
      if (!queues_[c].empty()) rotation_.push_back(c);
    }
    now_ = std::max(now_, to);
  }
  std::vector<std::vector<double>> ends;

 private:
  struct Request {
    std::uint32_t turns;
    double each;
  };
  double now_ = 0;
  std::vector<std::deque<Request>> queues_;
  std::deque<std::size_t> rotation_;
};

TEST_CASE("random products end when they do served one instruction at a time") {
  std::mt19937_64 random{11};
  for (int trial = 0; trial < 50; ++trial) {
    const std::size_t customers = 1 + random() % 5;
    TurnPipe<double> pipe;
    TurnPipe<Time> whole;
    pipe.reset(customers);
    whole.reset(customers);
    OneByOne slow{customers};
    std::vector<std::vector<double>> expected(customers);
    double at = 0;
    for (int i = 0; i < 40; ++i) {
      at += static_cast<double>(random() % 300);
      const std::size_t c = random() % customers;
      const auto turns = static_cast<std::uint32_t>(4 + random() % 33);
      const auto each = static_cast<double>(16 + random() % 49);
      // What is said of the future holds if nobody comes.
      pipe.add(c, at, turns, each);
      whole.add(c, Time::from_ns(at), turns, Time::from_ns(each));
      slow.add(c, at, turns, each);
      OneByOne future = slow;
      future.serve_until(1e9);
      CHECK_THAT(pipe.done(c, pipe.requests(c) - 1), WithinAbs(future.ends[c].back(), 1e-6));
      CHECK_THAT(whole.done(c, pipe.requests(c) - 1).ns(), WithinAbs(future.ends[c].back(), 1e-6));
      double last = 0;
      for (const std::vector<double>& e : future.ends) {
        if (!e.empty()) last = std::max(last, e.back());
      }
      CHECK_THAT(pipe.free_at(), WithinAbs(last, 1e-6));
      at = std::max(at, pipe.free_at() - 400);  // no more than eight at a time
    }
    slow.serve_until(1e9);
    for (std::size_t c = 0; c < customers; ++c) {
      const std::uint32_t n = pipe.requests(c);
      for (std::uint32_t r = n - std::min(n, pipe.kKept); r != n; ++r)
        CHECK_THAT(pipe.done(c, r), WithinAbs(slow.ends[c][r], 1e-6));
    }
  }
}

TEST_CASE("more products than are kept take their time all the same") {
  TurnPipe<double> pipe;
  pipe.reset(1);
  for (int i = 0; i < 100; ++i) pipe.add(0, 0, 4, 16);
  CHECK(pipe.free_at() == 6400);
  CHECK(pipe.done(0, 99) == 6400);
}

}  // namespace
}  // namespace tessera
