#pragma once
// The time wheel: the event queue inside one module.
//
// Events leave in the order (time, origin, sequence). Events delivered from other modules come before
// local ones of the same femtosecond, ordered by the port they arrived on; local ones come in the order
// they were scheduled. That order does not depend on *when* (in wall-clock or in lookahead windows) a
// remote event was handed over, which is what makes results independent of the lookahead quantum.

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstdint>
#include <queue>
#include <vector>

#include "sim/core/time.hpp"

namespace tessera::sim {

/// Payload must be trivially copyable and small; it is copied in and out.
template <class Payload>
class TimeWheel {
 public:
  TimeWheel() { slots_.fill(kNone); }

  /// Adds a local event at `at`, which must not lie before the last popped event.
  void schedule(Time at, const Payload& payload) { insert(at, kLocal | local_sequence_++, payload); }

  /// Adds an event that arrived on `port`. Events of one port keep the order of delivery at equal times.
  void deliver(Time at, std::uint32_t port, const Payload& payload) {
    if (port >= port_sequence_.size()) port_sequence_.resize(port + 1, 0);
    insert(at, (std::uint64_t{port} << 40U) | port_sequence_[port]++, payload);
  }

  /// Removes the earliest event if its time is before `end`.
  bool pop(Time end, Time& at, Payload& payload) {
    if (current_.empty() && !open_next_slot(end)) return false;
    const Ref top = current_.back();
    if (top.at >= end) return false;
    current_.pop_back();
    at = top.at;
    payload = nodes_[top.node].payload;
    release(top.node);
    --size_;
    return true;
  }

  /// The time of the earliest event, or Time::never().
  Time next_time() const {
    if (!current_.empty()) return current_.back().at;
    Time best = Time::never();
    const std::int64_t slot = next_occupied_slot();
    if (slot >= 0) {
      for (std::uint32_t n = slots_[index(slot)]; n != kNone; n = nodes_[n].next) {
        best = min(best, nodes_[n].at);
      }
    }
    if (!far_.empty()) best = min(best, far_.top().at);
    return best;
  }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

 private:
  static constexpr int kShift = 19;  // a slot is 0.52 ns, about one SM cycle
  static constexpr std::int64_t kSlots = 8192;
  static constexpr std::uint32_t kNone = 0xffffffffU;
  static constexpr std::uint64_t kLocal = std::uint64_t{1} << 63U;

  struct Node {
    Time at;
    std::uint64_t key;
    std::uint32_t next;
    Payload payload;
  };
  struct Ref {
    Time at;
    std::uint64_t key;
    std::uint32_t node;
    bool operator>(const Ref& o) const { return at != o.at ? at > o.at : key > o.key; }
  };

  static std::size_t index(std::int64_t slot) { return static_cast<std::size_t>(slot & (kSlots - 1)); }

  std::uint32_t allocate() {
    if (free_ != kNone) {
      const std::uint32_t n = free_;
      free_ = nodes_[n].next;
      return n;
    }
    nodes_.emplace_back();
    return static_cast<std::uint32_t>(nodes_.size() - 1);
  }
  void release(std::uint32_t n) {
    nodes_[n].next = free_;
    free_ = n;
  }

  void insert(Time at, std::uint64_t key, const Payload& payload) {
    const std::uint32_t n = allocate();
    Node& node = nodes_[n];
    node.at = at;
    node.key = key;
    node.payload = payload;
    ++size_;
    place(n);
  }

  void place(std::uint32_t n) {
    Node& node = nodes_[n];
    const std::int64_t slot = node.at.fs >> kShift;
    if (slot <= current_slot_) {
      // Late insertion into the slot being drained; `current_` is sorted latest first.
      const Ref ref{node.at, node.key, n};
      current_.insert(std::upper_bound(current_.begin(), current_.end(), ref,
                                       [](const Ref& a, const Ref& b) { return a > b; }),
                      ref);
    } else if (slot < current_slot_ + kSlots) {
      const std::size_t i = index(slot);
      node.next = slots_[i];
      slots_[i] = n;
      occupied_[i >> 6U] |= std::uint64_t{1} << (i & 63U);
    } else {
      far_.push(Ref{node.at, node.key, n});
    }
  }

  /// The first occupied slot after the current one within the wheel's horizon, or -1.
  std::int64_t next_occupied_slot() const {
    const std::size_t start = index(current_slot_ + 1);
    std::size_t word = start >> 6U;
    std::uint64_t bits = occupied_[word] & (~std::uint64_t{0} << (start & 63U));
    for (std::size_t scanned = 0; scanned <= kWords; ++scanned) {
      if (bits != 0) {
        const auto i =
            static_cast<std::int64_t>((word << 6U) + static_cast<std::size_t>(std::countr_zero(bits)));
        const std::int64_t ahead = (i - static_cast<std::int64_t>(start) + kSlots) & (kSlots - 1);
        return current_slot_ + 1 + ahead;
      }
      word = (word + 1) % kWords;
      bits = occupied_[word];
    }
    return -1;
  }

  void migrate_far() {
    while (!far_.empty() && (far_.top().at.fs >> kShift) < current_slot_ + kSlots) {
      const std::uint32_t n = far_.top().node;
      far_.pop();
      place(n);
    }
  }

  /// Opens the next slot that holds events and starts before `end`; events in it may still lie at or
  /// after `end`. Never moves past `end`, so that later insertions cannot fall behind.
  bool open_next_slot(Time end) {
    std::int64_t slot = next_occupied_slot();
    if (!far_.empty()) {
      const std::int64_t far_slot = far_.top().at.fs >> kShift;
      if (slot < 0 || far_slot < slot) slot = far_slot;
    }
    if (slot < 0 || (slot << kShift) >= end.fs) return false;
    current_slot_ = slot;
    migrate_far();
    const std::size_t i = index(slot);
    for (std::uint32_t n = slots_[i]; n != kNone; n = nodes_[n].next) {
      current_.push_back(Ref{nodes_[n].at, nodes_[n].key, n});
    }
    slots_[i] = kNone;
    occupied_[i >> 6U] &= ~(std::uint64_t{1} << (i & 63U));
    if (current_.size() > 1) std::sort(current_.begin(), current_.end(), std::greater<>{});
    return true;
  }

  static constexpr std::size_t kWords = static_cast<std::size_t>(kSlots) / 64;
  std::array<std::uint32_t, static_cast<std::size_t>(kSlots)> slots_{};
  std::array<std::uint64_t, kWords> occupied_{};
  std::vector<Node> nodes_;
  std::uint32_t free_ = kNone;
  std::vector<Ref> current_;
  std::priority_queue<Ref, std::vector<Ref>, std::greater<>> far_;
  std::int64_t current_slot_ = -1;
  std::uint64_t local_sequence_ = 0;
  std::vector<std::uint64_t> port_sequence_;
  std::size_t size_ = 0;
};

}  // namespace tessera::sim
