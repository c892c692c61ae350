#pragma once
// A pipe whose customers take turns, an instruction at a time: of those with work waiting each has one of its
// instructions served, then the next customer, round and round. So the tensor cores serve warps whose
// products are on their way at the same time. Who began first ends an instruction earlier, which is what lets
// one warpgroup wait for its result, and ask for the next, while the other is served.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "sim/core/duration.hpp"

namespace tessera {

template <Duration T>
class TurnPipe {
 public:
  /// Of how many requests of a customer the end can be asked for: the last ones.
  static constexpr std::uint32_t kKept = 8;

  /// All idle from the start of time.
  void reset(std::size_t customers) {
    customers_.assign(customers, {});
    rotation_.clear();
    now_ = left_ = busy_ = waiting_ = T{};
  }
  /// More customers, if there are fewer. What is on its way goes on.
  void make_room(std::size_t customers) {
    if (customers_.size() < customers) customers_.resize(customers);
  }

  /// `turns` instructions of `each` for `customer`, from `at` on and behind what it asked for before. A
  /// request of the past starts with the latest so far.
  void add(std::size_t customer, T at, std::uint32_t turns, T each) {
    progress(at);
    Customer& c = customers_[customer];
    if (c.finished == c.requests) {
      if (rotation_.empty()) left_ = each;
      rotation_.push_back(static_cast<std::uint32_t>(customer));
    } else if (c.requests - c.finished == kKept) {
      merge_oldest(customer);
    }
    c.kept[c.requests++ % kKept] = {.turns = turns, .each = each};
    const T service = times(each, turns);
    busy_ += service;
    waiting_ += service;
  }
  /// The same for one instruction, and its end if nobody comes in between.
  T reserve(std::size_t customer, T at, T service) {
    add(customer, at, 1, service);
    return done(customer, customers_[customer].requests - 1);
  }
  std::uint32_t requests(std::size_t customer) const { return customers_[customer].requests; }
  /// When request number `request` of the customer ends, or ended: later, if others ask for service until
  /// then.
  T done(std::size_t customer, std::uint32_t request) const {
    const Customer& c = customers_[customer];
    if (request < c.finished) return c.kept[request % kKept].end;
    std::uint32_t turns = 0;
    for (std::uint32_t r = c.finished; r != request + 1; ++r) turns += c.kept[r % kKept].turns;
    // The one being served has had part of its turn; those before the customer in the rotation have as many
    // turns as it has, those behind it one less.
    T t = now_ + left_ - customers_[rotation_.front()].head().each;
    bool before = true;
    for (const std::uint32_t other : rotation_) {
      if (other == customer) before = false;
      t += length(customers_[other], before || other == customer ? turns : turns - 1);
    }
    return t;
  }

  /// When the last turn begins that the customer asked for, known as `done` is.
  T last_turn_begins(std::size_t customer) const {
    const Customer& c = customers_[customer];
    const std::uint32_t last = c.requests - 1;
    return done(customer, last) - c.kept[last % kKept].each;
  }

  /// Begins nothing new before `at`.
  void hold_until(T at) { progress(at); }
  /// Stands still for `length` from `at` on: what has not ended by then ends later.
  void stand_still(T at, T length) {
    progress(at);
    for (Customer& c : customers_) delay_finished(c, at, length);
    if (!rotation_.empty()) now_ += length;
  }
  /// What the customer waits for ends `length` later, and takes no turns from others.
  void set_aside(std::size_t customer, T at, T length) {
    progress(at);
    Customer& c = customers_[customer];
    if (c.finished != c.requests) {
      std::array<T, kKept> ends{};
      for (std::uint32_t r = c.finished; r != c.requests; ++r) ends[r % kKept] = done(customer, r);
      const bool served = rotation_.front() == customer;
      if (served) waiting_ += c.head().each - left_;
      for (; c.finished != c.requests; ++c.finished) {
        Request& r = c.kept[c.finished % kKept];
        waiting_ -= times(r.each, r.turns);
        r.end = ends[c.finished % kKept];
      }
      std::erase(rotation_, static_cast<std::uint32_t>(customer));
      if (served && !rotation_.empty()) left_ = customers_[rotation_.front()].head().each;
    }
    delay_finished(c, at, length);
  }

  /// When all that was asked for is done.
  T free_at() const { return now_ + waiting_; }
  /// Total time in service, for utilisation.
  T busy() const { return busy_; }

 private:
  struct Request {
    std::uint32_t turns = 0;  ///< to come
    T each{};                 ///< length of a turn
    T end{};                  ///< once it has finished
  };
  struct Customer {
    std::uint32_t requests = 0;  ///< so far
    std::uint32_t finished = 0;  ///< of these
    std::array<Request, kKept> kept{};
    Request& head() { return kept[finished % kKept]; }
    const Request& head() const { return kept[finished % kKept]; }
  };

  /// The customer's next `turns` turns, or those that it asked for.
  static T length(const Customer& c, std::uint32_t turns) {
    T t{};
    for (std::uint32_t r = c.finished; r != c.requests && turns > 0; ++r) {
      const Request& request = c.kept[r % kKept];
      const std::uint32_t n = std::min(turns, request.turns);
      t += times(request.each, n);
      turns -= n;
    }
    return t;
  }
  /// Nobody asks for the oldest one's end any more: its turns and the next one's count as alike.
  void merge_oldest(std::size_t customer) {
    Customer& c = customers_[customer];
    const Request oldest = c.head();
    ++c.finished;
    Request& next = c.head();
    const bool served = rotation_.front() == customer;  // the turn that has begun keeps its length
    const std::uint32_t turns = oldest.turns + next.turns - (served ? 1 : 0);
    const T service = times(oldest.each, oldest.turns - (served ? 1 : 0)) + times(next.each, next.turns);
    next.turns += oldest.turns;
    next.each = part(service, turns);
    waiting_ += times(next.each, turns) - service;
  }
  static void delay_finished(Customer& c, T at, T length) {
    const std::uint32_t kept = std::min(c.finished, kKept);
    for (std::uint32_t r = c.finished - kept; r != c.finished; ++r) {
      if (T& end = c.kept[r % kKept].end; at < end) end += length;
    }
  }

  /// The one being served has had its turn.
  void end_turn() {
    now_ += left_;
    waiting_ -= left_;
    const std::uint32_t customer = rotation_.front();
    Customer& c = customers_[customer];
    if (--c.head().turns == 0) {
      c.head().end = now_;
      ++c.finished;
    }
    rotation_.erase(rotation_.begin());
    if (c.finished != c.requests) rotation_.push_back(customer);
    left_ = rotation_.empty() ? T{} : customers_[rotation_.front()].head().each;
  }
  /// Whole rounds that all have turns for, except each one's last turn, at once.
  void skip_rounds(T to) {
    T round{};
    std::uint64_t rounds = ~std::uint64_t{0};
    for (const std::uint32_t i : rotation_) {
      const Request& r = customers_[i].head();
      rounds = std::min<std::uint64_t>(rounds, r.turns - 1);
      round += r.each;
    }
    if (rounds == 0 || !(T{} < round)) return;
    rounds = std::min(rounds, fit(to - now_, round));
    for (const std::uint32_t i : rotation_) customers_[i].head().turns -= static_cast<std::uint32_t>(rounds);
    now_ += times(round, rounds);
    waiting_ -= times(round, rounds);
  }
  void progress(T to) {
    while (!rotation_.empty() && now_ + left_ <= to) {
      skip_rounds(to);
      if (now_ + left_ <= to) end_turn();
    }
    if (to <= now_) return;
    if (!rotation_.empty()) {
      left_ -= to - now_;
      waiting_ -= to - now_;
    } else {
      waiting_ = T{};
    }
    now_ = to;
  }

  std::vector<Customer> customers_;
  std::vector<std::uint32_t> rotation_;  // with work left; the first one is being served
  T now_{};                              // up to when service is accounted for
  T left_{};                             // of the turn of the one being served
  T busy_{}, waiting_{};                 // asked for so far, and not served yet
};

}  // namespace tessera
