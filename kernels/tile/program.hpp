#pragma once
// A tile program: the coroutine that one warp role of one CTA runs. It reads like the kernel.
//
//   Program producer(const Cta& cta) {
//     for (unsigned k = 0; k < k_tiles; ++k) {
//       co_await wait(empty[stage], phase ^ 1);
//       co_await expect(full[stage], bytes);
//       co_await tma_load(a_box(k), full[stage]);
//     ...
//
// Programs know nothing of time. Whoever runs one (a simulated SM, the cost model's counter) resumes it,
// reads the operation that it asks for, and resumes it again when that operation lets it go on.

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <utility>

#include "kernels/tile/op.hpp"

namespace tessera::tile {

namespace detail {
// Frames are recycled per size class: a kernel starts tens of thousands of them.
void* allocate_frame(std::size_t bytes);
void free_frame(void* frame, std::size_t bytes);
}  // namespace detail

class Program {
 public:
  struct promise_type {
    Op op;
    std::uint64_t result = 0;

    Program get_return_object() { return Program{std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }

    struct Awaiter {
      promise_type& promise;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<>) const noexcept {}
      std::uint64_t await_resume() const noexcept { return promise.result; }
    };
    Awaiter await_transform(const Op& o) {
      op = o;
      return Awaiter{*this};
    }

    static void* operator new(std::size_t bytes) { return detail::allocate_frame(bytes); }
    static void operator delete(void* frame, std::size_t bytes) { detail::free_frame(frame, bytes); }
  };

  Program() = default;
  Program(Program&& o) noexcept : handle_{std::exchange(o.handle_, {})} {}
  Program& operator=(Program&& o) noexcept {
    std::swap(handle_, o.handle_);
    return *this;
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() {
    if (handle_) handle_.destroy();
  }

  /// Runs to the next operation; false when the program has ended.
  bool advance() {
    handle_.resume();
    return !handle_.done();
  }
  /// The operation asked for by the last advance().
  const Op& op() const { return handle_.promise().op; }
  /// What co_await of the current operation will return (next_tile, item and trip only).
  void set_result(std::uint64_t value) { handle_.promise().result = value; }

 private:
  explicit Program(std::coroutine_handle<promise_type> handle) : handle_{handle} {}
  std::coroutine_handle<promise_type> handle_;
};

// The vocabulary of tile programs. `bar` is an index into the kernel's barriers.

inline Op tma_load(const Box& box, std::uint8_t bar, std::uint16_t cluster_mask = 0) {
  Op op{.kind = OpKind::tma_load, .barrier = bar, .cluster_mask = cluster_mask};
  op.box = box;
  return op;
}
/// As tma_load, through a tensor map whose L2 promotion is 256 B.
inline Op tma_load_promoted(const Box& box, std::uint8_t bar, std::uint16_t cluster_mask = 0) {
  Op op = tma_load(box, bar, cluster_mask);
  op.promote = true;
  return op;
}
inline Op tma_store(const Box& box) {
  Op op{.kind = OpKind::tma_store};
  op.box = box;
  return op;
}
/// As tma_load and tma_store, through tensor maps of layouts in which shared memory holds the box as `pieces`
/// runs of less than a line each (the 8 x 16 B core matrices of mma operands, say).
inline Op tma_load_pieces(const Box& box, std::uint64_t pieces, std::uint8_t bar) {
  Op op = tma_load(box, bar);
  op.count = pieces;
  return op;
}
inline Op tma_store_pieces(const Box& box, std::uint64_t pieces) {
  Op op = tma_store(box);
  op.count = pieces;
  return op;
}
inline Op store_wait(unsigned pending = 0) { return Op{.kind = OpKind::store_wait, .count = pending}; }
inline Op expect(std::uint8_t bar, std::uint64_t bytes) {
  return Op{.kind = OpKind::expect, .barrier = bar, .count = bytes};
}
inline Op arrive(std::uint8_t bar) { return Op{.kind = OpKind::arrive, .barrier = bar, .rank = 0xff}; }
/// Arrives on the barrier of another CTA of the cluster.
inline Op arrive_remote(std::uint8_t bar, std::uint8_t rank) {
  return Op{.kind = OpKind::arrive, .barrier = bar, .rank = rank};
}
inline Op wait(std::uint8_t bar, unsigned parity) {
  return Op{.kind = OpKind::wait, .barrier = bar, .phase = static_cast<std::uint8_t>(parity & 1U)};
}
inline Op named_sync(std::uint8_t name, unsigned roles) {
  return Op{.kind = OpKind::named_sync, .barrier = name, .count = roles};
}
inline Op named_arrive(std::uint8_t name, unsigned roles) {
  return Op{.kind = OpKind::named_arrive, .barrier = name, .count = roles};
}
inline Op wgmma(unsigned m, unsigned n, unsigned k, bool a_in_registers = false) {
  return Op{.kind = OpKind::wgmma,
            .a_in_registers = a_in_registers,
            .m = static_cast<std::uint16_t>(m),
            .n = static_cast<std::uint16_t>(n),
            .k = k};
}
inline Op wgmma_wait(unsigned pending) { return Op{.kind = OpKind::wgmma_wait, .count = pending}; }
/// `beside_bytes`: fragments of later products that the warps load meanwhile (ldmatrix, software-pipelined).
inline Op mma(unsigned m, unsigned n, unsigned k, std::uint64_t beside_bytes = 0) {
  return Op{.kind = OpKind::mma,
            .m = static_cast<std::uint16_t>(m),
            .n = static_cast<std::uint16_t>(n),
            .k = k,
            .count = beside_bytes};
}
/// `depth`: the cycles that the longest chain of dependent instructions takes, however many lanes are free.
inline Op compute(const Vector& work, std::uint64_t depth = 0) {
  Op op{.kind = OpKind::compute, .count = depth};
  op.vector = work;
  return op;
}
inline Op shared_load(std::uint64_t bytes) { return Op{.kind = OpKind::shared_load, .count = bytes}; }
/// Of lines that the program knows to be in the L1: there is no model of what is.
inline Op l1_load(std::uint64_t bytes) { return Op{.kind = OpKind::l1_load, .count = bytes}; }
inline Op shared_store(std::uint64_t bytes) { return Op{.kind = OpKind::shared_store, .count = bytes}; }
inline Op load(const Box& box) {
  Op op{.kind = OpKind::load};
  op.box = box;
  return op;
}
/// `depth`: as of compute, the cycles that the threads are busy with their copies at least.
inline Op async_load(const Box& box, std::uint8_t bar, std::uint64_t depth = 0) {
  Op op{.kind = OpKind::async_load, .barrier = bar, .count = depth};
  op.box = box;
  return op;
}
inline Op load_wait(unsigned pending = 0) { return Op{.kind = OpKind::load_wait, .count = pending}; }
inline Op store(const Box& box) {
  Op op{.kind = OpKind::store};
  op.box = box;
  return op;
}
inline Op chain(std::uint64_t cycles) { return Op{.kind = OpKind::chain, .count = cycles}; }
inline Op prefetch_tile() { return Op{.kind = OpKind::prefetch_tile}; }
inline Op next_tile() { return Op{.kind = OpKind::next_tile}; }
/// A piece of work (an output tile, say) begins, in which trip() will tell of `alike` trips in all. Not zero
/// if whoever runs the program accounts for the whole of it: the role then goes on with the next piece,
/// having touched no barrier for this one. Called by every role of the CTA and of its cluster, as trip() is.
inline Op item(std::uint64_t alike) { return Op{.kind = OpKind::item, .count = alike}; }
/// The next of `alike` trips (this one included) of a loop that every role of the CTA, and of its cluster,
/// goes through. Returns how many of them, this one first, whoever runs the program accounts for by itself:
/// the role goes on with the trip after those. All roles get the same answers, so that barriers and rings
/// stay in step; none that is not asked for here is passed over.
inline Op trip(std::uint64_t alike) { return Op{.kind = OpKind::trip, .count = alike}; }
inline Op cluster_sync() { return Op{.kind = OpKind::cluster_sync}; }

}  // namespace tessera::tile
