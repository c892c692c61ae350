#include "sim/core/module.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <string>
#include <vector>

#include "sim/core/error.hpp"

namespace tessera::sim {
namespace {

struct Ball {
  int hits = 0;
  int source = 0;
};

/// Returns every ball to one of two neighbours after a delay that depends on what came before.
class Player : public EventModule<Ball> {
 public:
  Player(sc_core::sc_module_name name, int id) : EventModule{name}, id_{id} {}
  Outlet<Ball> left, right;
  std::vector<std::int64_t> log;
  void serve(Time at) { schedule(at, Ball{0, id_}); }

 private:
  void handle(Time now, const Ball& ball) override {
    state_ = state_ * 6364136223846793005ULL + static_cast<std::uint64_t>(now.fs) +
             static_cast<std::uint64_t>(ball.hits * 7 + ball.source);
    log.push_back(static_cast<std::int64_t>(state_ >> 1U));
    if (ball.hits >= 200) return;
    Outlet<Ball>& to = (state_ >> 40U & 1U) != 0 ? left : right;
    // Coarse delays, so that many events meet in the same femtosecond.
    to.send_at(now, now + to.latency() + Time::nanoseconds(static_cast<std::int64_t>(state_ >> 50U & 3U)),
               Ball{ball.hits + 1, id_});
  }
  int id_;
  std::uint64_t state_ = 1;
};

std::string play(Time lookahead, unsigned number_of_threads) {
  set_lookahead_limit(lookahead);
  const Threads threads{number_of_threads};
  Player a{"a", 1}, b{"b", 2}, c{"c", 3};
  const auto join = [](Player& from, Player& l, Player& r, std::int64_t ns) {
    from.left.connect(l, Time::nanoseconds(ns));
    from.right.connect(r, Time::nanoseconds(ns + 1));
  };
  join(a, b, c, 5);
  join(b, c, a, 6);
  join(c, a, b, 5);
  for (int i = 0; i < 20; ++i) {
    a.serve(Time::nanoseconds(i / 4));
    b.serve(Time::nanoseconds(i / 4));
  }
  run_to_completion({&a, &b, &c});
  std::string text;
  for (const Player* p : {&a, &b, &c}) {
    for (const std::int64_t n : p->log) text += std::to_string(n) + ' ';
  }
  return text;
}

/// Runs in a process of its own: SystemC simulates once per process.
std::string in_child(Time lookahead, unsigned threads = 1) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t pid = fork();
  if (pid == 0) {
    const std::string text = play(lookahead, threads);
    for (std::size_t done = 0; done < text.size();) {
      const ssize_t n = write(ends[1], text.data() + done, text.size() - done);
      if (n <= 0) break;
      done += static_cast<std::size_t>(n);
    }
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  char chunk[4096];
  for (ssize_t n = 0; (n = read(ends[0], chunk, sizeof chunk)) > 0;)
    text.append(chunk, static_cast<std::size_t>(n));
  close(ends[0]);
  waitpid(pid, nullptr, 0);
  return text;
}

TEST_CASE("results do not depend on the lookahead") {
  const std::string whole = in_child(Time::never());
  CHECK(whole.size() > 10'000);
  for (const std::int64_t ps : {1, 505, 1000, 4999}) CHECK(in_child(Time::picoseconds(ps)) == whole);
}

TEST_CASE("results do not depend on the number of threads") {
  const std::string alone = in_child(Time::never());
  for (const unsigned threads : {2U, 3U}) {
    CHECK(in_child(Time::never(), threads) == alone);
    CHECK(in_child(Time::picoseconds(1000), threads) == alone);
  }
}

TEST_CASE("a pool runs every task once") {
  WindowPool pool{3};
  std::array<std::atomic<int>, 50> runs{};
  for (std::uint32_t round = 0; round < 2'000; ++round) {
    pool.run(
        round % 50, [](void* context, std::uint32_t i) { ++static_cast<std::atomic<int>*>(context)[i]; },
        runs.data());
  }
  for (int i = 0; i < 50; ++i) CHECK(runs[static_cast<std::size_t>(i)] == 40 * (49 - i));
}

class Forgetful : public EventModule<Ball> {
 public:
  explicit Forgetful(sc_core::sc_module_name name) : EventModule{name} { schedule(Time::nanoseconds(1), {}); }
  void describe_stuck(std::vector<std::string>& out) const override {
    out.push_back("forgetful waits for credit 7");
  }

 private:
  void handle(Time, const Ball&) override {}
};

TEST_CASE("a run that cannot progress names who waits") {
  Forgetful f{"forgetful"};
  try {
    run_to_completion({&f});
    FAIL("no deadlock was reported");
  } catch (const DeadlockError& e) {
    CHECK(std::string{e.what()}.find("forgetful waits for credit 7") != std::string::npos);
  }
}

TEST_CASE("nothing can be sent faster than the port's latency") {
  Player a{"a", 1}, b{"b", 2};
  a.left.connect(b, Time::nanoseconds(5));
  CHECK_THROWS_AS(a.left.send_at(Time::nanoseconds(10), Time::nanoseconds(14), {}), ConservationError);
  CHECK_THROWS_AS(b.left.connect(a, Time{}), std::logic_error);
}

}  // namespace
}  // namespace tessera::sim
