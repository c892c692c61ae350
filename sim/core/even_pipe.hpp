#pragma once
// A pipe that its customers share evenly: of n with work waiting each is served at an n-th of the rate, its
// own requests in order. So the shared memory is shared by what multiplies, loads, stores and copies, whose
// accesses alternate cycle by cycle. Work is conserved: when all of it is done does not depend on the shares,
// when a request is does.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "sim/core/duration.hpp"

namespace tessera {

template <Duration T>
class EvenPipe {
 public:
  /// Of how many requests of a customer the end can be asked for: the last ones.
  static constexpr std::uint32_t kKept = 8;

  /// All idle from the start of time.
  void reset(std::size_t customers) {
    customers_.assign(customers, {});
    active_.clear();
    now_ = busy_ = T{};
  }
  /// More customers, if there are fewer. What is on its way goes on.
  void make_room(std::size_t customers) {
    if (customers_.size() < customers) customers_.resize(customers);
  }

  /// `service` more for `customer` from `at` on. A request of the past starts with the latest so far.
  void add(std::size_t customer, T at, T service) {
    progress(at);
    Customer& c = customers_[customer];
    if (c.asked == c.served) active_.push_back(static_cast<std::uint32_t>(customer));
    c.asked += service;
    if (c.requests - c.finished == kKept) ++c.finished;  // nobody asks for its end any more
    c.end[c.requests++ % kKept] = c.asked;
    busy_ += service;
    if (c.asked == c.served) {  // of no length
      active_.pop_back();
      serve(c, c.asked, 0);
    }
  }
  /// The same, and its end if nobody comes in between.
  T reserve(std::size_t customer, T at, T service) {
    add(customer, at, service);
    return done(customer, customers_[customer].requests - 1);
  }
  std::uint32_t requests(std::size_t customer) const { return customers_[customer].requests; }
  /// When request number `request` of the customer ends, or ended: later, if others ask for service until
  /// then.
  T done(std::size_t customer, std::uint32_t request) const {
    const Customer& c = customers_[customer];
    const T& end = c.end[request % kKept];
    if (request < c.finished) return end;
    T t = now_;
    for (const std::uint32_t other : active_) t += std::min(end - c.served, left(customers_[other]));
    return t;
  }

  /// Begins nothing new before `at`.
  void hold_until(T at) { progress(at); }
  /// Stands still for `length` from `at` on: what has not ended by then ends later.
  void stand_still(T at, T length) {
    progress(at);
    for (Customer& c : customers_) delay_finished(c, at, length);
    if (!active_.empty()) now_ += length;
  }
  /// What the customer waits for ends `length` later, and takes no turns from others.
  void set_aside(std::size_t customer, T at, T length) {
    progress(at);
    Customer& c = customers_[customer];
    if (c.asked != c.served) {
      std::array<T, kKept> ends{};
      for (std::uint32_t r = c.finished; r != c.requests; ++r) ends[r % kKept] = done(customer, r);
      for (; c.finished != c.requests; ++c.finished) c.end[c.finished % kKept] = ends[c.finished % kKept];
      c.served = c.asked;
      std::erase(active_, static_cast<std::uint32_t>(customer));
    }
    delay_finished(c, at, length);
  }

  /// When all that was asked for is done.
  T free_at() const {
    T t = now_;
    for (const std::uint32_t c : active_) t += left(customers_[c]);
    return t;
  }
  /// Total time in service, for utilisation.
  T busy() const { return busy_; }

 private:
  struct Customer {
    T asked{}, served{};         ///< service in all
    std::uint32_t requests = 0;  ///< so far
    std::uint32_t finished = 0;  ///< of these
    std::array<T, kKept> end{};  ///< of those not finished the `served` at their end, else its time
  };

  static T left(const Customer& c) { return c.asked - c.served; }

  /// `c` is served from now on, beside n - 1 others, until it has had `until` in all.
  void serve(Customer& c, T until, std::size_t n) {
    const T before = std::exchange(c.served, until);
    for (; c.finished != c.requests; ++c.finished) {
      T& end = c.end[c.finished % kKept];
      if (c.served < end) break;
      end = now_ + times(end - before, n);
    }
  }
  static void delay_finished(Customer& c, T at, T length) {
    const std::uint32_t kept = std::min(c.finished, kKept);
    for (std::uint32_t r = c.finished - kept; r != c.finished; ++r) {
      if (T& end = c.end[r % kKept]; at < end) end += length;
    }
  }

  void progress(T to) {
    while (now_ < to && !active_.empty()) {
      const std::size_t n = active_.size();
      T least = left(customers_[active_.front()]);
      for (const std::uint32_t c : active_) least = std::min(least, left(customers_[c]));
      const bool one_ends = now_ + times(least, n) <= to;
      const T served = one_ends ? least : part(to - now_, n);
      for (const std::uint32_t c : active_) {
        Customer& customer = customers_[c];
        serve(customer, one_ends && left(customer) == least ? customer.asked : customer.served + served, n);
      }
      now_ = one_ends ? now_ + times(least, n) : to;
      if (one_ends)
        std::erase_if(active_, [&](std::uint32_t c) { return customers_[c].asked == customers_[c].served; });
    }
    now_ = std::max(now_, to);
  }

  std::vector<Customer> customers_;
  std::vector<std::uint32_t> active_;  // with work left
  T now_{}, busy_{};                   // up to when service is accounted for
};

}  // namespace tessera
